/** What is asked of a guest, over ssh. */

import { quote } from "../../../shared/remote-command.ts";
import type { GuestConnection } from "../connection.ts";
import { readCounters } from "../counters.ts";
import type { GuestQuestions } from "../questions.ts";
import { listListeners } from "../ports.ts";
import { shutDown } from "../shut-down.ts";

export function sshQuestions(connection: Pick<GuestConnection, "answers" | "open" | "runLine">): GuestQuestions {
  return {
    run: async (address, argv, timeoutMs, signal) =>
      await connection.runLine(address, argv.map(quote).join(" "), timeoutMs, signal),
    shutDown: async (...asked) => await shutDown(connection, ...asked),
    listListeners: async (address) => await listListeners(connection, address),
    readCounters: async (address) => await readCounters(connection, address),
  };
}
