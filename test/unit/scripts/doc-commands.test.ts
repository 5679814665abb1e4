/** Every command line that the hand-written pages show exists, with its flags. */

import { expect, test } from "bun:test";
import { join, resolve } from "node:path";
import { ROOT as COMMANDS } from "../../../src/cmd/commands/index.ts";
import { findNode, type Group, isGroup } from "../../../src/cmd/line/command.ts";

const ROOT = resolve(import.meta.dir, "../../..");
const PAGES = ["README.md", "docs/guide.md"];

/** Command lines of the page's sh blocks that call banger, each as the words after `banger`. */
function listCommandLines(page: string): readonly (readonly string[])[] {
  const blocks = [...page.matchAll(/^```sh\n([\s\S]*?)^```$/gm)].map(([, body = ""]) => body);
  return blocks
    .flatMap((body) => body.split("\n"))
    .flatMap((line) => {
      const called = /(?:^|\| |sudo )(?:dist\/)?banger (.+)$/.exec(line.replace(/\s+#.*$/, ""));
      return called === null ? [] : [(called[1] ?? "").split(/\s+/)];
    });
}

/** What is wrong with a command line; null when nothing is. */
async function checkCommandLine(words: readonly string[]): Promise<string | null> {
  let node: Group = COMMANDS;
  const rest = [...words];
  for (;;) {
    const word = rest.shift();
    const found = word === undefined ? null : findNode(node, word);
    if (found === null) return `there is no ${word}`;
    if (isGroup(found)) {
      node = found;
      continue;
    }
    const { args, json } = await found.load();
    const end = rest.indexOf("--");
    for (const flag of (end < 0 ? rest : rest.slice(0, end)).filter((entry) => /^-+[a-z]/.test(entry))) {
      const name = flag.replace(/^-+(?:no-)?/, "").replace(/=.*$/, "");
      const letters = flag.startsWith("--") ? [name] : name.split("");
      for (const letter of letters) {
        const known = Object.entries(args).some(
          ([key, arg]) => key === letter || ("alias" in arg && [arg.alias].flat().includes(letter)),
        );
        if (!known && !(letter === "json" && json === true)) return `${flag} is no flag of it`;
      }
    }
    return null;
  }
}

test.each(PAGES)("%s shows commands that exist", async (path) => {
  const lines = listCommandLines(await Bun.file(join(ROOT, path)).text());
  expect(lines.length).toBeGreaterThan(2);
  for (const words of lines)
    expect({ line: words.join(" "), wrong: await checkCommandLine(words) }).toEqual({
      line: words.join(" "),
      wrong: null,
    });
});

test.each([
  [["vm", "rnu"], "no rnu"],
  [["run", "--frobnicate", "--", "true"], "--frobnicate"],
  [["ps", "-z"], "-z"],
])("%j is found wrong", async (words, wrong) => {
  expect(await checkCommandLine(words)).toContain(wrong);
});

test("flags of the guest's command are its own", async () => {
  expect(await checkCommandLine(["run", "--rm", "--", "ls", "--frobnicate"])).toBe(null);
});

test("links between the pages lead somewhere", async () => {
  for (const path of [...PAGES, "docs/privileges.md", "docs/performance.md", "AGENTS.md", "CHANGELOG.md"]) {
    const text = await Bun.file(join(ROOT, path)).text();
    for (const [, target = ""] of text.matchAll(/\]\(([^)#:]+)(?:#[^)]*)?\)/g))
      expect({ path, target, exists: await Bun.file(join(ROOT, path, "..", target)).exists() }).toEqual({
        path,
        target,
        exists: true,
      });
  }
});
