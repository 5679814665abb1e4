import { expect, test } from "bun:test";
import { Locks } from "../../../src/shared/locks.ts";

test("keep calls of one key apart and in order, after a failure too, and don't hold others", async () => {
  const locks = new Locks();
  const log: string[] = [];
  const gate = Promise.withResolvers<void>();
  const first = locks.run("a", async () => {
    await gate.promise;
    log.push("a1");
    throw new Error("a1");
  });
  const second = locks.run("a", async () => {
    log.push("a2");
  });
  await locks.run("b", async () => {
    log.push("b");
  });
  await locks.run(null, async () => {
    log.push("none");
  });
  gate.resolve();
  expect(await first.catch((thrown: Error) => thrown.message)).toBe("a1");
  await second;
  expect(log).toEqual(["b", "none", "a1", "a2"]);
});

test("one after the other by key, in the order they came, and what is first before all that wait", async () => {
  const locks = new Locks();
  const log: string[] = [];
  const release = Promise.withResolvers<void>();
  const note = (name: string) => async (): Promise<void> => void log.push(name);
  const calls = [
    locks.run("network", async () => {
      log.push("owner 1 begins");
      await release.promise;
      log.push("owner 1 ends");
    }),
    locks.run("network", note("owner 2")),
    locks.run("network", note("owner 3")),
    locks.run("network", note("root 1"), true),
    locks.run("network", note("root 2"), true),
  ];
  await locks.run("vm", note("another key"));
  await locks.run(null, note("no key"));
  expect(log).toEqual(["owner 1 begins", "another key", "no key"]);
  release.resolve();
  await Promise.all(calls);
  expect(log.slice(3)).toEqual(["owner 1 ends", "root 1", "root 2", "owner 2", "owner 3"]);
});

test("what fails keeps nobody waiting, and a key that nobody has is free again", async () => {
  const locks = new Locks();
  const fails = async (): Promise<never> => await Promise.reject(new Error("no"));
  const ended = await Promise.allSettled([locks.run("k", fails), locks.run("k", fails)]);
  expect(ended.map(({ status }) => status)).toEqual(["rejected", "rejected"]);
  expect(await locks.run("k", async () => 7)).toBe(7);
});
