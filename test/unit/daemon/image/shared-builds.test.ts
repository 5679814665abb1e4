import { expect, test } from "bun:test";
import { SharedBuilds } from "../../../../src/daemon/image/shared-builds.ts";
import type { ImageRun } from "../../../../src/daemon/image/sources/source.ts";
import type { ImageRecord } from "../../../../src/shared/contract/schemas.ts";

interface Started {
  readonly run: ImageRun;
  finish(): void;
}

/** Builds that end when the test says so, or when they are cancelled. */
function fakeBuilds() {
  const started: Started[] = [];
  const builds = new SharedBuilds(async (name, run) => {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    started.push({ run, finish: resolve });
    run.signal.addEventListener("abort", () => reject(run.signal.reason));
    await promise;
    return { name, builtBy: String(started.length) } as ImageRecord;
  });
  return { builds, started };
}

function asker() {
  const abort = new AbortController();
  const seen: string[] = [];
  return {
    seen,
    cancel: () => abort.abort(new Error("cancelled")),
    run: { signal: abort.signal, progress: ({ message }) => void seen.push(message) } satisfies ImageRun,
  };
}

test("two askers share one build and its progress; a third name has its own", async () => {
  const { builds, started } = fakeBuilds();
  const [one, two] = [asker(), asker()];
  const results = [builds.run("a", one.run), builds.run("a", two.run), builds.run("b", asker().run)];
  expect(builds.has("a")).toBe(true);
  await Promise.resolve();
  expect(started).toHaveLength(2);
  started[0]?.run.progress({ stage: "x", message: "half" });
  for (const { finish } of started) finish();
  const [first, second] = await Promise.all(results);
  expect(second).toBe(first as ImageRecord);
  expect([one.seen, two.seen]).toEqual([["half"], ["half"]]);
  expect([builds.has("a"), builds.has("b")]).toEqual([false, false]);
});

test("one asker who gives up leaves the build to the other", async () => {
  const { builds, started } = fakeBuilds();
  const [one, two] = [asker(), asker()];
  const [left, stayed] = [builds.run("a", one.run), builds.run("a", two.run)];
  await Promise.resolve();
  one.cancel();
  await expect(left).rejects.toThrow("cancelled");
  expect(started[0]?.run.signal.aborted).toBe(false);
  started[0]?.run.progress({ stage: "x", message: "later" });
  started[0]?.finish();
  expect(await stayed).toMatchObject({ name: "a" });
  expect([one.seen, two.seen]).toEqual([[], ["later"]]);
});

test("when the last one gives up the build is cancelled, and who asks meanwhile gets one of their own", async () => {
  const cleanUp = Promise.withResolvers<void>();
  let began = 0;
  const builds = new SharedBuilds(async (name, { signal }) => {
    if (++began === 2) return { name, builtBy: "the second" } as ImageRecord;
    await new Promise((resolve) => signal.addEventListener("abort", resolve));
    await cleanUp.promise;
    throw signal.reason;
  });
  const one = asker();
  let hasLeft = false;
  const left = builds.run("a", one.run).finally(() => (hasLeft = true));
  await Bun.sleep(0);
  one.cancel();
  await Bun.sleep(0);
  const next = builds.run("a", asker().run);
  await Bun.sleep(0);
  // Both wait for the cancelled build to clean up.
  expect([began, hasLeft]).toEqual([1, false]);
  cleanUp.resolve();
  await expect(left).rejects.toThrow("cancelled");
  expect(await next).toMatchObject({ builtBy: "the second" });
  expect(builds.has("a")).toBe(false);
});

test("a build that fails fails for all, and can be asked for again", async () => {
  let tries = 0;
  const builds = new SharedBuilds(async (name) => {
    if (++tries === 1) throw new Error("no room");
    return await Promise.resolve({ name } as ImageRecord);
  });
  const both = await Promise.allSettled([builds.run("a", asker().run), builds.run("a", asker().run)]);
  expect(both.map((result) => result.status === "rejected" && String(result.reason))).toEqual([
    "Error: no room",
    "Error: no room",
  ]);
  expect(await builds.run("a", asker().run)).toMatchObject({ name: "a" });
});
