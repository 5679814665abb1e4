/** Everything the daemon does with a guest: through the agent in it where that answers, else over ssh. */

import type { Paths } from "../../shared/places/paths.ts";
import type { GuestAddress } from "./address.ts";
import { agentQuestions } from "./agent/questions.ts";
import { preferAgent } from "./agent/prefer-agent.ts";
import type { GuestConnection } from "./connection.ts";
import type { GuestAgent, GuestQuestions } from "./questions.ts";
import { createSshConnection } from "./ssh/connection.ts";
import { addForward, removeForward } from "./ssh/forwards.ts";
import { sshCommand } from "./ssh/options.ts";
import { sshQuestions } from "./ssh/questions.ts";

export type { GuestAddress } from "./address.ts";

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
