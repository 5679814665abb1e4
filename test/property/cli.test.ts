import { expect, test } from "bun:test";
import fc from "fast-check";
import { flagsOf, planCommand } from "../../src/cmd/line/parse.ts";
import { ROOT } from "../../src/cmd/commands/index.ts";
import { type Group, isGroup } from "../../src/cmd/line/command.ts";
import { BangerError } from "../../src/shared/errors.ts";
import { runInProcess } from "../support/cli.ts";

/** These change the machine without asking a daemon first, or follow a file for ever. */
const NOT_RUN = /^(?:ssh-config|system|update|daemon logs)\b/;

const words: string[] = ["--", "-", "", "--help", "--version", "-aq", "--=", "--=x", "-=", "box", "box:/x", "1:2", "0"];
const visit = async (group: Group): Promise<void> => {
  for (const [name, node] of Object.entries(group.commands)) {
    words.push(name);
    if (isGroup(node)) await visit(node);
    else for (const flag of flagsOf(await node.load()).keys()) words.push(flag.length === 1 ? `-${flag}` : `--${flag}`);
  }
};
await visit(ROOT);

const argv = fc.array(
  fc.oneof(
    { weight: 6, arbitrary: fc.constantFrom(...new Set(words)) },
    { weight: 1, arbitrary: fc.string() },
    { weight: 1, arbitrary: fc.constantFrom("constructor", "__proto__", "toString", "--__proto__", "--constructor=1") },
  ),
  { maxLength: 7 },
);

test("no command line ends as a bug of banger", async () => {
  await fc.assert(
    fc.asyncProperty(argv, async (line) => {
      let runs = true;
      try {
        const plan = await planCommand(line, ROOT);
        runs = plan.kind !== "run" || !NOT_RUN.test(plan.path.join(" "));
      } catch (thrown) {
        expect(thrown).toBeInstanceOf(BangerError);
        expect((thrown as BangerError).code).toBe("USAGE");
      }
      if (!runs) return;
      const result = await runInProcess(line);
      expect([0, 1, 2, 10, 11, 12, 20, 22, 50, 125]).toContain(result.status);
    }),
    { numRuns: 1500 },
  );
}, 60_000);

test("what stands after -- comes through untouched", async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(fc.string(), { minLength: 1 }), async (rest) => {
      const plan = await planCommand(["vm", "exec", "box", "--", ...rest], ROOT);
      expect(plan.kind === "run" && plan.scanned.rest).toEqual(rest);
    }),
  );
});
