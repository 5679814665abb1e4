import { expect, test } from "bun:test";
import { preferAgent } from "../../../../../src/daemon/guest/agent/prefer-agent.ts";
import type { GuestQuestions } from "../../../../../src/daemon/guest/questions.ts";
import { BangerError, type ErrorCode } from "../../../../../src/shared/errors.ts";
import { guestAddress } from "../../../../support/guest-address.ts";

const withAgent = { ...guestAddress, hasAgent: true };

/** Questions that are noted under a name, and fail with `code` when there is one. */
function fakeQuestions(said: string[], name: string, code: ErrorCode | null): GuestQuestions {
  const answer = async <T>(what: string, result: T): Promise<T> => {
    said.push(`${name} ${what}`);
    if (code !== null) throw new BangerError(code, "not today");
    return await Promise.resolve(result);
  };
  return {
    run: async () => await answer("run", { exitCode: 0, stdout: name, stderr: "" }),
    shutDown: async (_address, _word, timeoutMs) => await answer(`shutDown ${timeoutMs <= 10_000}`, true),
    listListeners: async () => await answer("listListeners", []),
    readCounters: async () => await answer("readCounters", { rxBytes: 1, txBytes: 2 }),
  };
}

function both(agentFails: ErrorCode | null, sshFails: ErrorCode | null = null) {
  const said: string[] = [];
  const connection = { open: async () => await Promise.resolve(void said.push("open")) };
  const questions = preferAgent(
    fakeQuestions(said, "agent", agentFails),
    fakeQuestions(said, "ssh", sshFails),
    connection,
  );
  const askAll = async (address: typeof guestAddress): Promise<void> => {
    await questions.run(address, ["true"], 1000);
    await questions.listListeners(address);
    await questions.readCounters(address);
    await questions.shutDown(address, "poweroff", 10_000);
  };
  return { said, questions, askAll };
}

test("an agent that answers is asked, and nobody else", async () => {
  const { said, askAll } = both(null);
  await askAll(withAgent);
  expect(said).toEqual(["agent run", "agent listListeners", "agent readCounters", "agent shutDown true"]);
});

test("where none answers, it is ssh, whose connection is open", async () => {
  const { said, askAll } = both(null);
  await askAll(guestAddress);
  expect(said).toEqual(["ssh run", "ssh listListeners", "ssh readCounters", "ssh shutDown true"]);
});

test.each(["GUEST_NOT_READY", "IN_USE"] as const)(
  "one that turns out to be silent (%s) is done without",
  async (code) => {
    const { said, askAll } = both(code);
    await askAll(withAgent);
    expect(said.filter((line) => !line.startsWith("agent"))).toEqual([
      ...["open", "ssh run", "open", "ssh listListeners", "open", "ssh readCounters"],
      "ssh shutDown true",
    ]);
  },
);

test("a command that may have begun is not run a second time; a question may be asked again", async () => {
  const { said, questions } = both("EXEC_FAILED");
  await expect(questions.run(withAgent, ["reboot"], 1000)).rejects.toThrow("not today");
  expect(said).toEqual(["agent run"]);
  expect(await questions.listListeners(withAgent)).toEqual([]);
  expect(said.at(-1)).toBe("ssh listListeners");
});

test("a cancelled question is not asked another way", async () => {
  const { said, questions } = both("CANCELLED");
  await expect(questions.listListeners(withAgent)).rejects.toThrow("not today");
  expect(said).toEqual(["agent listListeners"]);
});

test("counters of a guest that answers nobody are unknown", async () => {
  expect(await both("GUEST_NOT_READY", "GUEST_NOT_READY").questions.readCounters(withAgent)).toBe(null);
});
