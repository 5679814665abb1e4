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
