/** Asks a guest's agent where it answers; when it doesn't, ssh. */

import { BangerError } from "../../../shared/errors.ts";
import type { GuestAddress } from "../address.ts";
import type { GuestConnection } from "../connection.ts";
import type { GuestQuestions } from "../questions.ts";

/** For opening ssh after an agent that stayed silent. */
const OPEN_TIMEOUT_MS = 5000;
/** Of the time for a shutdown, the agent's part. What is left is enough for ssh. */
const SHUT_DOWN_SHARE = 0.4;

/** Nothing was asked, so it may be asked another way. */
const wasNotAsked = (error: BangerError): boolean => error.code === "GUEST_NOT_READY" || error.code === "IN_USE";
/** Whatever failed, asking twice changes nothing. */
const always = (): boolean => true;

export function preferAgent(
  agent: GuestQuestions,
  ssh: GuestQuestions,
  connection: Pick<GuestConnection, "open">,
): GuestQuestions {
  const ask = async <T>(
    address: GuestAddress,
    byAgent: () => Promise<T>,
    bySsh: () => Promise<T>,
    mayAskAgain: (error: BangerError) => boolean,
  ): Promise<T> => {
    if (!address.hasAgent) return await bySsh();
    try {
      return await byAgent();
    } catch (thrown) {
      if (!(thrown instanceof BangerError) || thrown.code === "CANCELLED" || !mayAskAgain(thrown)) throw thrown;
    }
    await connection.open(address, OPEN_TIMEOUT_MS);
    return await bySsh();
  };
  return {
    run: async (address, ...rest) =>
      await ask(
        address,
        async () => await agent.run(address, ...rest),
        async () => await ssh.run(address, ...rest),
        wasNotAsked,
      ),
    listListeners: async (address) =>
      await ask(
        address,
        async () => await agent.listListeners(address),
        async () => await ssh.listListeners(address),
        always,
      ),
    readCounters: async (address) =>
      await ask(
        address,
        async () => await agent.readCounters(address),
        async () => await ssh.readCounters(address),
        always,
      ).catch((thrown: unknown) => {
        if (thrown instanceof BangerError) return null;
        throw thrown;
      }),
    shutDown: async (address, word, timeoutMs) => {
      if (!address.hasAgent) return await ssh.shutDown(address, word, timeoutMs);
      const deadline = Date.now() + timeoutMs;
      try {
        return await agent.shutDown(address, word, Math.round(timeoutMs * SHUT_DOWN_SHARE));
      } catch (thrown) {
        if (!(thrown instanceof BangerError)) throw thrown;
      }
      return await ssh.shutDown(address, word, Math.max(1, deadline - Date.now()));
    },
  };
}
