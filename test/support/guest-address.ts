/** The address of a guest that isn't there. */

import * as v from "valibot";
import type { GuestAddress } from "../../src/daemon/guest/address.ts";
import { VmId } from "../../src/shared/contract/schemas.ts";

export const guestAddress: GuestAddress = {
  id: v.parse(VmId, "0123456789ab"),
  sshHost: "127.0.0.1",
  sshPort: 2222,
  runtimeDir: "/nowhere",
  hasAgent: false,
};
