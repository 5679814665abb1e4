/** Everything the daemon does with a guest, over ssh. */

import type { Paths } from "../../../shared/places/paths.ts";
import { quote } from "../../../shared/remote-command.ts";
import type { ToolResult } from "../../host/run-tool.ts";
import type { GuestAddress } from "../address.ts";
import type { GuestConnection } from "../connection.ts";
import { type Counters, readCounters } from "../counters.ts";
import { type Listener, listListeners } from "../ports.ts";
import { type ShutdownWord, shutDown } from "../shut-down.ts";
import { createSshConnection } from "./connection.ts";
import { addForward, removeForward } from "./forwards.ts";
import { sshCommand } from "./options.ts";

export type { GuestAddress } from "../address.ts";

/** What is asked of a guest that runs. */
export interface GuestQuestions {
  /** Runs a command (each argument quoted) and returns its output, whatever its status. */
  run(address: GuestAddress, argv: readonly string[], timeoutMs: number, signal?: AbortSignal): Promise<ToolResult>;
  /** Asks the guest to sync and end, by the word that ends its VMM. True when it said it would. */
  shutDown(address: GuestAddress, word: ShutdownWord, timeoutMs: number): Promise<boolean>;
  /** @throws BangerError GUEST_FAILED */
  listListeners(address: GuestAddress): Promise<readonly Listener[]>;
  /** Bytes counted by the guest's interfaces other than loopback; null when it doesn't answer. */
  readCounters(address: GuestAddress): Promise<Counters | null>;
}

/** Forwards from this host's loopback. */
export interface GuestForwards {
  /** @throws BangerError IN_USE, NO_ACCESS, FAILED; nothing listens then */
  addForward(address: GuestAddress, hostPort: number, guestPort: number): Promise<void>;
  removeForward(address: GuestAddress, hostPort: number, guestPort: number): Promise<void>;
}

export interface Guest extends Pick<GuestConnection, "answers" | "open" | "close">, GuestQuestions, GuestForwards {
  /** ssh, every option, the destination; a remote command may be appended. */
  sshArgv(address: GuestAddress): readonly string[];
}

export function createGuest(paths: Paths): Guest {
  const connection = createSshConnection(paths);
  return {
    answers: connection.answers,
    open: connection.open,
    close: connection.close,
    sshArgv: (address) => sshCommand(paths, address),
    run: async (address, argv, timeoutMs, signal) =>
      await connection.runLine(address, argv.map(quote).join(" "), timeoutMs, signal),
    shutDown: async (...asked) => await shutDown(connection, ...asked),
    listListeners: async (address) => await listListeners(connection, address),
    readCounters: async (address) => await readCounters(connection, address),
    addForward: async (...asked) => await addForward(connection, ...asked),
    removeForward: async (...asked) => await removeForward(connection, ...asked),
  };
}
