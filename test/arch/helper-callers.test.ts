import { expect, test } from "bun:test";
import { join, resolve } from "node:path";
import { HELPER_VERBS } from "../../src/shared/contract/helper-api.ts";

const ROOT = resolve(import.meta.dir, "../..");

/** The verb named where a helper's client is called; a mention elsewhere is no call. */
const CALL = /(?:\bcall|\bcallHelper)\(\s*(?:[\w.]+,\s*)?"(priv\.\w+)"/g;

const callsIn = (text: string): readonly string[] => [...text.matchAll(CALL)].map(([, verb = ""]) => verb);

test("every verb of the helper has a caller in the product: what nothing calls only serves an attacker", async () => {
  const called = new Set<string>();
  for await (const path of new Bun.Glob("src/{daemon,cmd}/**/*.ts").scan({ cwd: ROOT }))
    for (const verb of callsIn(await Bun.file(join(ROOT, path)).text())) called.add(verb);
  expect(called.size).toBeGreaterThan(10);
  expect(Object.keys(HELPER_VERBS).filter((verb) => !called.has(verb))).toEqual([]);
});

test("a call is told from a mention", () => {
  expect(callsIn('await privileged.call("priv.ping", {})')).toEqual(["priv.ping"]);
  expect(callsIn('callHelper(paths.helperSocket, "priv.inventory", {})')).toEqual(["priv.inventory"]);
  expect(callsIn('await call(\n  "priv.kill_process",\n  {},\n)')).toEqual(["priv.kill_process"]);
  expect(callsIn('verb !== "priv.launch_firecracker"; // priv.ping')).toEqual([]);
});
