/** What is asked of a guest, through the agent in it. */

import { forLook } from "../../../shared/agent/channel.ts";
import { AgentRefusal } from "../../../shared/agent/exec.ts";
import { powerOff, readListeners, readUsage, runInGuest, setClock } from "../../../shared/agent/client.ts";
import { BangerError } from "../../../shared/errors.ts";
import { agentPlaceOf } from "../address.ts";
import { oncePerPort } from "../ports.ts";
import type { GuestAgent, GuestQuestions } from "../questions.ts";

const ANSWER_TIMEOUT_MS = 5000;
/** As of a tool on this host: more is no answer. */
const OUTPUT_LIMIT_BYTES = 16 * 1024 * 1024;
/** A shell's words for a command that can't be run. */
const STATUS_OF_REFUSAL: Partial<Record<AgentRefusal["reason"], number>> = { notFound: 127, notExecutable: 126 };

/** Each throws GUEST_NOT_READY or IN_USE if nothing was asked yet. */
export const agentQuestions: GuestQuestions & GuestAgent = {
  run: async (address, argv, timeoutMs, signal) => {
    try {
      const { exit, stdout, stderr } = await runInGuest(
        agentPlaceOf(address),
        { argv, env: [] },
        { timeoutMs, outputLimitBytes: OUTPUT_LIMIT_BYTES, signal },
      );
      return { exitCode: exit.status, stdout: stdout.toString("utf8"), stderr: stderr.toString("utf8") };
    } catch (thrown) {
      const exitCode = thrown instanceof AgentRefusal ? STATUS_OF_REFUSAL[thrown.reason] : undefined;
      if (exitCode === undefined) throw thrown;
      return { exitCode, stdout: "", stderr: (thrown as AgentRefusal).text };
    }
  },
  shutDown: async (address, word, timeoutMs) => {
    await powerOff(agentPlaceOf(address), word, { timeoutMs });
    return true;
  },
  listListeners: async (address) => {
    return oncePerPort(await readListeners(agentPlaceOf(address), { timeoutMs: ANSWER_TIMEOUT_MS }));
  },
  readCounters: async (address) => await readUsage(agentPlaceOf(address), { timeoutMs: ANSWER_TIMEOUT_MS }),
  agentAnswers: async (address, timeoutMs) => {
    try {
      await readUsage(forLook(agentPlaceOf(address)), { timeoutMs });
      return true;
    } catch (thrown) {
      if (thrown instanceof BangerError) return thrown.code === "IN_USE" ? null : false;
      throw thrown;
    }
  },
  setClock: async (address, timeoutMs) => await setClock(agentPlaceOf(address), new Date(), { timeoutMs }),
};
