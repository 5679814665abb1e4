import { expect, test } from "bun:test";
import { Locks } from "../../../src/daemon/locks.ts";

test("one at a time per key, in the order asked; keys don't wait for each other; a failure passes the lock on", async () => {
  const locks = new Locks();
  const said: string[] = [];
  const work = (name: string, ms: number) => async (): Promise<void> => {
    said.push(`${name} begins`);
    await Bun.sleep(ms);
    said.push(`${name} ends`);
    if (name === "a1") throw new Error("a1 failed");
  };
  const [first] = await Promise.allSettled([
    locks.with("a", work("a1", 15)),
    locks.with("a", work("a2", 1)),
    locks.with("b", work("b1", 1)),
  ]);
  expect(first.status).toBe("rejected");
  expect(said).toEqual(["a1 begins", "b1 begins", "b1 ends", "a1 ends", "a2 begins", "a2 ends"]);
});
