/** Where one VM's guest is. */

import type { AgentPlace } from "../../shared/agent/channel.ts";
import type { VmId } from "../../shared/contract/schemas.ts";

export interface GuestAddress {
  readonly id: VmId;
  readonly sshHost: string;
  readonly sshPort: number;
  /** The VM's runtime directory; the control socket is in it. */
  readonly runtimeDir: string;
  /** The VM's jail, where the guest may be reached over vsock: tried first, since it works with a broken network. */
  readonly jailRoot?: string;
  /** Whether the agent in the guest answered when it was last asked. */
  readonly hasAgent: boolean;
}

/** Where the guest's agent is, if it has one. */
export function agentPlaceOf({ jailRoot, runtimeDir }: Pick<GuestAddress, "jailRoot" | "runtimeDir">): AgentPlace {
  return jailRoot === undefined ? { kind: "serial", directory: runtimeDir } : { kind: "vsock", jailRoot };
}
