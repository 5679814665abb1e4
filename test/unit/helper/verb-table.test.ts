import { describe, expect, test } from "bun:test";
import { join } from "node:path";
import { HELPER_VERBS, type HelperVerbName } from "../../../src/shared/contract/helper-api.ts";
import * as gates from "../../../src/helper/gates.ts";
import { VERBS } from "../../../src/helper/verbs/index.ts";
import { verbTable } from "../../../src/helper/verb-table.ts";

const names = Object.keys(HELPER_VERBS) as HelperVerbName[];

test("one row per verb of the contract, each with words for what it does", () => {
  const rows = verbTable();
  expect(rows.map(({ verb }) => verb.split(" ")[0] ?? "")).toEqual(names);
  for (const { doc, verb } of rows) {
    expect(doc).toMatch(/\.\)?$/);
    expect(verb).toMatch(/^priv\.[a-z0-9_]+ \{[a-z_, ]*\}$/);
  }
});

test("every verb but ping says what stops whom", () => {
  for (const { verb, gate, stops } of verbTable()) {
    if (verb.startsWith("priv.ping ")) continue;
    expect(gate).not.toBe("");
    expect(stops).not.toBe("");
  }
});

describe.each(names)("%s", (name) => {
  test("enforces in its code each fact it lists", async () => {
    // A listed gate that nothing enforces would be documentation of a check that isn't there.
    const { facts } = VERBS[name];
    const sources = new Bun.Glob("**/*.ts").scan({ cwd: join(import.meta.dir, "../../../src/helper"), absolute: true });
    let text = "";
    for await (const path of sources) if (!path.endsWith("gates.ts")) text += await Bun.file(path).text();
    for (const fact of facts) {
      const gate = Object.entries(gates).find(([, value]) => value === (fact as unknown))?.[0] ?? "none";
      expect(text).toMatch(new RegExp(String.raw`enforce\([^;]*\b${gate}\b|\b${gate}\.check\(`));
    }
  });
});
