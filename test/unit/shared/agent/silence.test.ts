import { expect, test } from "bun:test";
import { watchSilence } from "../../../../src/shared/agent/silence.ts";

const TIMES = { quietMs: 1, looks: 3 };

/** Watches a channel that is always quiet, or never, and counts the looks into it. */
function watch(isQuiet: boolean, answer: (look: number) => boolean | null) {
  let looks = 0;
  const { promise: gone, resolve } = Promise.withResolvers<number>();
  const watching = watchSilence(
    () => (isQuiet ? 0 : performance.now()),
    async () => await Promise.resolve(answer(++looks)),
    () => resolve(looks),
    TIMES,
  );
  return { gone, looks: () => looks, [Symbol.dispose]: () => watching[Symbol.dispose]() };
}

/** Long enough for many looks. */
const rest = async (): Promise<void> => await Bun.sleep(100);

test("an agent that stays silent is given up after so many looks in a row", async () => {
  using watching = watch(true, () => false);
  expect(await watching.gone).toBe(3);
});

test("an answer in between begins the count anew", async () => {
  using watching = watch(true, (look) => look === 2);
  expect(await watching.gone).toBe(5);
});

test("a look that found no way in counts as neither", async () => {
  using watching = watch(true, (look) => (look % 2 === 0 ? null : false));
  expect(await watching.gone).toBe(5);
});

test("one that answers is never given up, however quiet its command", async () => {
  using watching = watch(true, () => true);
  expect(await Promise.race([watching.gone, rest()])).toBe(undefined);
  expect(watching.looks()).toBeGreaterThan(3);
});

test("a channel that says something is not looked into", async () => {
  using watching = watch(false, () => false);
  await rest();
  expect(watching.looks()).toBe(0);
});

test("what is over is not watched any more", async () => {
  const watching = watch(true, () => false);
  watching[Symbol.dispose]();
  await rest();
  expect(watching.looks()).toBe(0);
});
