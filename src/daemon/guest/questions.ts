/** What the daemon asks of a guest. `agent/` and `ssh/` each have a way to ask it. */

import type { ToolResult } from "../host/run-tool.ts";
import type { GuestAddress } from "./address.ts";
import type { Counters } from "./counters.ts";
import type { Listener } from "./ports.ts";
import type { ShutdownWord } from "./shut-down.ts";

/** What is asked of a guest that runs. */
export interface GuestQuestions {
  /** Runs a command and returns its output, whatever its status. */
  run(address: GuestAddress, argv: readonly string[], timeoutMs: number, signal?: AbortSignal): Promise<ToolResult>;
  /** Asks the guest to sync and end, by the word that ends its VMM. True when it said it would. */
  shutDown(address: GuestAddress, word: ShutdownWord, timeoutMs: number): Promise<boolean>;
  /** @throws BangerError GUEST_FAILED */
  listListeners(address: GuestAddress): Promise<readonly Listener[]>;
  /** Bytes counted by the guest's interfaces other than loopback; null when it doesn't answer. */
  readCounters(address: GuestAddress): Promise<Counters | null>;
}

/** What only an agent can be asked. */
export interface GuestAgent {
  /** Whether the agent answers within `timeoutMs`, whatever is known of it; null when all ways to ask it were in use. */
  agentAnswers(address: GuestAddress, timeoutMs: number): Promise<boolean | null>;
  /** Sets the guest's clock to this host's. @throws BangerError */
  setClock(address: GuestAddress, timeoutMs: number): Promise<void>;
}
