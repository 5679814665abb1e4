/** The pages lead to each other: the index names every one, and no link leads nowhere. */

import { expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { dirname, join, relative, resolve } from "node:path";

const ROOT = resolve(import.meta.dir, "../../..");
const INDEX = "docs/README.md";

const PAGES = [
  ...new Bun.Glob("*.md").scanSync({ cwd: ROOT }),
  ...new Bun.Glob("docs/**/*.{md,json}").scanSync({ cwd: ROOT }),
].sort();

interface Link {
  /** From the root of the repository. */
  readonly path: string;
  /** After `#`; empty when there is none. */
  readonly heading: string;
}

const read = async (page: string): Promise<string> => await Bun.file(join(ROOT, page)).text();

/** Links of a page to files of the repository. */
async function linksOf(page: string): Promise<readonly Link[]> {
  const prose = (await read(page)).replace(/^```[\s\S]*?^```$/gm, "").replace(/`[^`\n]*`/g, "");
  const targets = [...prose.matchAll(/\]\(([^)\s]+)\)/g)].map(([, target]) => target ?? "");
  return targets
    .filter((target) => !/^[a-z]+:/.test(target))
    .map((target) => {
      const [path = "", heading = ""] = target.split("#");
      return { path: path === "" ? page : relative(ROOT, join(ROOT, dirname(page), path)), heading };
    });
}

/** The anchors of a page's headings, as GitHub makes them. */
async function anchorsOf(page: string): Promise<readonly string[]> {
  return [...(await read(page)).matchAll(/^#+ (.+)$/gm)].map(([, heading]) =>
    (heading ?? "")
      .toLowerCase()
      .replace(/[^\p{L}\p{N} _-]/gu, "")
      .replaceAll(" ", "-"),
  );
}

test("the index lists every page once", async () => {
  const listed = (await linksOf(INDEX)).map(({ path }) => path);
  expect([...listed].sort()).toEqual(PAGES.filter((page) => page !== INDEX));
});

test("the index has one line for each page", async () => {
  const lines = (await read(INDEX)).split("\n").filter((line) => line.includes("]("));
  for (const line of lines) expect(line).toMatch(/^- \[[^\]]+\]\([^)]+\): .+\.$/);
});

test("the README leads to the index and to the security policy", async () => {
  const linked = (await linksOf("README.md")).map(({ path }) => path);
  expect(linked).toContain(INDEX);
  expect(linked).toContain("SECURITY.md");
});

test.each(PAGES.filter((page) => page.endsWith(".md")))("%s has no link that leads nowhere", async (page) => {
  for (const { path, heading } of await linksOf(page)) {
    expect({ path, exists: existsSync(join(ROOT, path)) }).toEqual({ path, exists: true });
    if (heading !== "") expect(await anchorsOf(path)).toContain(heading);
  }
});

test("every attack that docs/privileges.md lists names tests that exist", async () => {
  const page = await Bun.file(join(ROOT, "docs/privileges.md")).text();
  const section = page.slice(page.indexOf("## Attacks tried"), page.indexOf("## What this does not stop"));
  const named = section
    .split("\n")
    .filter((line) => line.startsWith("| ") && !/^\| (?:attack|---)/.test(line))
    .map((line) => [...(line.split(" | ").at(-1) ?? "").matchAll(/`([^`]+)`/g)].map(([, name = ""]) => name));
  expect(named.length).toBeGreaterThan(30);
  const scenarios = new Set<string>();
  for await (const path of new Bun.Glob("test/hostvm/scenarios/*.ts").scan({ cwd: ROOT }))
    scenarios.add(/^ {2}name: "([^"]+)"/m.exec(await Bun.file(join(ROOT, path)).text())?.[1] ?? "");
  for (const names of named) {
    expect(names).not.toEqual([]);
    for (const name of names)
      expect({ name, exists: scenarios.has(name) || (await Bun.file(join(ROOT, name)).exists()) }).toEqual({
        name,
        exists: true,
      });
  }
});
