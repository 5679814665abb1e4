/** Asks the daemon for a way into a guest. */

import type { SshWayIn } from "../../shared/contract/schemas.ts";
import { BangerError } from "../../shared/errors.ts";
import type { Client } from "../daemon/client.ts";

/** @throws BangerError what `vm.connect` does; VERSION_MISMATCH for a way in that this version doesn't know */
export async function connectGuest(client: Client, vm: string): Promise<SshWayIn> {
  const answer = (await client.call("vm.connect", { vm })) as SshWayIn;
  // The daemon may be another version: an older one has only ssh and doesn't name it.
  const kind: string | undefined = answer.kind;
  if (kind !== undefined && kind !== "ssh")
    throw new BangerError(
      "VERSION_MISMATCH",
      `the daemon offers ${kind} as the way into ${answer.name}; this banger knows only ssh`,
    );
  return { ...answer, kind: "ssh", ...(client.via === undefined ? {} : { via: [...client.via] }) };
}
