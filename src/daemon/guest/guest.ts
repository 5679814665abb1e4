/** Everything the daemon does with a guest: through the agent in it where that answers, else over ssh. */

import type { Paths } from "../../shared/places/paths.ts";
import type { ToolResult } from "../host/run-tool.ts";
import type { GuestAddress } from "./address.ts";
import { agentQuestions } from "./agent/questions.ts";
import { preferAgent } from "./agent/prefer-agent.ts";
import type { GuestConnection } from "./connection.ts";
import type { Counters } from "./counters.ts";
import type { Listener } from "./ports.ts";
import type { ShutdownWord } from "./shut-down.ts";
import { createSshConnection } from "./ssh/connection.ts";
import { addForward, removeForward } from "./ssh/forwards.ts";
import { sshCommand } from "./ssh/options.ts";
import { sshQuestions } from "./ssh/questions.ts";

export type { GuestAddress } from "./address.ts";

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
  /** Whether the agent answers within `timeoutMs`, whatever is known of it. */
  agentAnswers(address: GuestAddress, timeoutMs: number): Promise<boolean>;
  /** Sets the guest's clock to this host's. @throws BangerError */
  setClock(address: GuestAddress, timeoutMs: number): Promise<void>;
}

/** Forwards from this host's loopback. The control connection must be open. */
export interface GuestForwards {
  /** @throws BangerError IN_USE, NO_ACCESS, FAILED; nothing listens then */
  addForward(address: GuestAddress, hostPort: number, guestPort: number): Promise<void>;
  removeForward(address: GuestAddress, hostPort: number, guestPort: number): Promise<void>;
}

export interface Guest
  extends Pick<GuestConnection, "answers" | "open" | "close">, GuestQuestions, GuestAgent, GuestForwards {
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
    ...preferAgent(agentQuestions, sshQuestions(connection), connection),
    agentAnswers: agentQuestions.agentAnswers,
    setClock: agentQuestions.setClock,
    addForward: async (...asked) => await addForward(connection, ...asked),
    removeForward: async (...asked) => await removeForward(connection, ...asked),
  };
}
