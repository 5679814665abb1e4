/** What listens in the guest, from `ss -Hltnp` (ss(8)). The guest may say anything; only well-formed lines count. */

import { BangerError } from "../../shared/errors.ts";
import type { GuestAddress } from "./address.ts";
import type { GuestConnection } from "./connection.ts";

const ANSWER_TIMEOUT_MS = 15_000;

export interface Listener {
  readonly port: number;
  readonly process: string | null;
}

const LISTENERS_LIMIT = 1000;

/** Sorted, each port once, with the name of a process where one is known. Pure. */
export function oncePerPort(listeners: Iterable<Listener>): readonly Listener[] {
  const byPort = new Map<number, Listener>();
  for (const listener of listeners)
    if ((byPort.get(listener.port)?.process ?? null) === null) byPort.set(listener.port, listener);
  return [...byPort.values()].toSorted((a, b) => a.port - b.port);
}

/** Ports listened on, sorted, each once. */
export function parseListeners(output: string): readonly Listener[] {
  const listeners: Listener[] = [];
  for (const line of output.split("\n")) {
    const fields = line.trim().split(/\s+/);
    if (fields[0] !== "LISTEN") continue;
    const port = Number(/:(\d{1,5})$/.exec(fields[3] ?? "")?.[1]);
    if (!Number.isInteger(port) || port < 1 || port > 65535) continue;
    const process = /users:\(\("([\w.@:+-]{1,64})"/.exec(line)?.[1] ?? null;
    listeners.push({ port, process });
  }
  return oncePerPort(listeners).slice(0, LISTENERS_LIMIT);
}

/** @throws BangerError GUEST_FAILED */
export async function listListeners(
  connection: Pick<GuestConnection, "runLine">,
  address: GuestAddress,
): Promise<readonly Listener[]> {
  const result = await connection.runLine(address, "ss -Hltnp", ANSWER_TIMEOUT_MS);
  if (result.exitCode !== 0)
    throw new BangerError("GUEST_FAILED", `ss in the guest ended with ${result.exitCode}: ${result.stderr.trim()}`);
  return parseListeners(result.stdout);
}
