import { describe, expect, test } from "bun:test";
import { planCommand } from "../../../../src/cmd/line/parse.ts";
import { ROOT } from "../../../../src/cmd/commands/index.ts";
import { type Entry, type Group, isGroup } from "../../../../src/cmd/line/command.ts";
import { runInProcess } from "../../../support/cli.ts";

function groupPaths(group: Group, path: readonly string[] = []): readonly string[][] {
  return Object.entries(group.commands).flatMap(([name, node]) =>
    isGroup(node) && node.hidden !== true ? [[...path, name], ...groupPaths(node, [...path, name])] : [],
  );
}
const GROUPS = [[], ...groupPaths(ROOT)];

describe("help", () => {
  test.each(GROUPS.map((path) => [path.join(" ")]))("of banger %s", async (line) => {
    const path = line === "" ? [] : line.split(" ");
    const asked = await runInProcess([...path, "--help"]);
    expect(asked.stdout).toMatchSnapshot();
    expect(asked).toMatchObject({ status: 0, stderr: "", calls: [] });
    for (const other of [[...path, "-h"], path, ["help", ...path]])
      expect((await runInProcess(other)).stdout).toBe(asked.stdout);
    for (const text of asked.stdout.split("\n")) expect(text.length).toBeLessThanOrEqual(120);
  });

  test.each(["vm run", "vm exec", "vm cp", "vm forward", "kernel import", "completion"])(
    "of banger %s",
    async (line) => {
      const path = line.split(" ");
      const asked = await runInProcess([...path, "--help"]);
      expect(asked.stdout).toMatchSnapshot();
      expect((await runInProcess(["help", ...path])).stdout).toBe(asked.stdout);
    },
  );

  test("wins over whatever else is wrong before --, and is the guest's after it", async () => {
    expect((await runInProcess(["vm", "run", "--bogus", "--help"])).status).toBe(0);
    expect((await runInProcess(["vm", "exec", "box", "--", "ls", "--help"])).stdout).toBe("");
  });

  test("of a group loads no command", async () => {
    const loaded: string[] = [];
    const watch = (name: string, node: Entry | Group): Entry | Group =>
      isGroup(node)
        ? watchGroup(node)
        : {
            ...node,
            load: async () => {
              loaded.push(name);
              return await node.load();
            },
          };
    const watchGroup = (group: Group): Group => ({
      ...group,
      commands: Object.fromEntries(Object.entries(group.commands).map(([name, node]) => [name, watch(name, node)])),
    });
    for (const path of GROUPS) await planCommand([...path, "--help"], watchGroup(ROOT));
    expect(loaded).toEqual([]);
    await planCommand(["vm", "run", "--help"], watchGroup(ROOT));
    expect(loaded).toEqual(["run"]);
  });
});
