/** `scripts/prepare.sh` runs before there is a Bun to read the table of needs, so it has lists of its own. */

import { expect, test } from "bun:test";
import { join, resolve } from "node:path";
import { HELPER_TOOLS, type HelperTool, type Need, OWNER_TOOLS, toolsFor } from "../../../src/shared/host-needs.ts";

const text = await Bun.file(join(resolve(import.meta.dir, "../../.."), "scripts/prepare.sh")).text();

/** What a list of the script names, and the package that has it. */
function readList(name: string): ReadonlyMap<string, string> {
  const [, list = ""] = new RegExp(`^${name}='\n([^']*)'$`, "m").exec(text) ?? [];
  const rows = list.split("\n").filter(Boolean);
  expect(rows.length).toBeGreaterThan(0);
  return new Map(rows.map((row) => row.split(" ") as [string, string]));
}

const run = readList("RUN_NEEDS");
const lists = [run, ...["USER_NEEDS", "TEST_NEEDS", "ROOT_TEST_NEEDS", "OPTIONAL_TEST_NEEDS"].map(readList)];

const packagesFor = (...needs: readonly Need[]): readonly string[] => [
  ...new Set(toolsFor(...needs).map((tool) => tool.package)),
];

test("it installs every package that VMs, image builds and tests need", () => {
  const packages = (list: ReadonlyMap<string, string>): readonly string[] => [...list.values()];
  expect(packagesFor("vm", "rootless vm", "image build").filter((name) => !packages(run).includes(name))).toEqual([]);
  expect(packages(readList("USER_NEEDS"))).toEqual([...packagesFor("rootless image build")]);
  const all = lists.flatMap(packages);
  expect(packagesFor("kernel import").filter((name) => !all.includes(name))).toEqual([]);
});

test("it looks for them by the same names, and in the same packages", () => {
  const table: Readonly<Record<string, Pick<HelperTool, "package">>> = { ...OWNER_TOOLS, ...HELPER_TOOLS };
  const differing = lists.flatMap((list) =>
    [...list].filter(([need, name]) => need in table && table[need]?.package !== name),
  );
  expect(differing).toEqual([]);
  const packages = new Set(lists.flatMap((list) => [...list.keys()].flatMap((need) => table[need]?.package ?? [])));
  // A package counts as installed when the table's own program of it is there.
  expect(packagesFor("vm", "rootless vm", "image build").filter((name) => !packages.has(name))).toEqual([]);
});
