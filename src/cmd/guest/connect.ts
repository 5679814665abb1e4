/** Asks the daemon for a way into a guest. */

import type { AgentWayIn, SshWayIn, WayIn } from "../../shared/contract/schemas.ts";
import { BangerError } from "../../shared/errors.ts";
import type { Client } from "../daemon/client.ts";

type Kind = WayIn["kind"];

/** The way in by ssh. @throws BangerError what `vm.connect` does; VERSION_MISMATCH for a way in that this version doesn't know */
export async function connectGuest(client: Client, vm: string): Promise<SshWayIn> {
  return (await ask(client, vm, ["ssh"])) as SshWayIn;
}

/** The way in that the daemon prefers. @throws like {@link connectGuest} */
export async function findWayIn(client: Client, vm: string): Promise<WayIn> {
  return await ask(client, vm, ["agent", "ssh"]);
}

/** The agent, where banger on this machine knows it. @throws BangerError what `vm.connect` does, GUEST_NOT_READY */
export async function findAgent(client: Client, vm: string): Promise<AgentWayIn> {
  return (await ask(client, vm, ["agent"])) as AgentWayIn;
}

async function ask(client: Client, vm: string, accepts: Kind[]): Promise<WayIn> {
  // Left out, it means ssh, also to a daemon from before there were agents, which would refuse the field.
  const isOnlySsh = accepts.length === 1 && accepts[0] === "ssh";
  let answer: WayIn;
  try {
    answer = await client.call("vm.connect", isOnlySsh ? { vm } : { vm, accepts });
  } catch (thrown) {
    if (isOnlySsh || !accepts.includes("ssh") || !isCode(thrown, "INVALID_REQUEST")) throw thrown;
    return await ask(client, vm, ["ssh"]);
  }
  // The daemon may be another version: an older one has only ssh and doesn't name it.
  const kind: string = (answer.kind as string | undefined) ?? "ssh";
  if (!(accepts as readonly string[]).includes(kind))
    throw new BangerError(
      "VERSION_MISMATCH",
      `the daemon offers ${kind} as the way into ${answer.name}; this banger knows only ${accepts.join(" and ")} here`,
    );
  return { ...answer, kind, ...(client.via === undefined ? {} : { via: [...client.via] }) } as WayIn;
}

function isCode(thrown: unknown, code: BangerError["code"]): boolean {
  return thrown instanceof BangerError && thrown.code === code;
}
