import { afterAll, expect, test } from "bun:test";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { findDrift, renderPages, replaceBlock } from "../../../scripts/docs.ts";
import { CONFIG_KEYS } from "../../../src/shared/config.ts";
import { METHODS } from "../../../src/shared/contract/owner-api.ts";
import { ERROR_TABLE } from "../../../src/shared/errors.ts";

const dir = await mkdtemp(join(tmpdir(), "banger-docs-"));
afterAll(async () => {
  await rm(dir, { recursive: true, force: true });
});
const pages = await renderPages();
const page = (name: string): string => pages.find(({ path }) => path === `docs/reference/${name}`)?.text ?? "";

test("every method, error and key is on its page", () => {
  for (const name of Object.keys(METHODS)) expect(page("api.md")).toContain(`### ${name}\n`);
  for (const code of Object.keys(ERROR_TABLE)) expect(page("errors.md")).toContain(`| \`${code}\` |`);
  for (const key of Object.keys(CONFIG_KEYS)) expect(page("config.md")).toContain(`| \`${key}\` |`);
});

test("every command that help shows is on its page, hidden ones are not", () => {
  const text = page("commands.md");
  for (const name of ["vm run", "vm exec", "image build", "daemon status", "doctor", "explain"])
    expect(text).toMatch(new RegExp(`^##+ banger ${name}$`, "m"));
  expect(text).not.toMatch(/^##+ banger internal/m);
  expect(text).toContain("`banger run`");
});

test("the OpenAPI document has every method, and no reference that leads nowhere", () => {
  const text = page("openapi.json");
  const document = JSON.parse(text) as { paths: object; components: { schemas: object } };
  expect(Object.keys(document.paths)).toEqual(Object.keys(METHODS).map((name) => `/v1/${name}`));
  const references = new Set(
    [...text.matchAll(/"\$ref": "#\/components\/schemas\/(\w+)"/g)].map(([, name]) => name ?? ""),
  );
  expect(references.size).toBeGreaterThan(5);
  for (const name of references) expect(Object.keys(document.components.schemas)).toContain(name);
});

test("a block of a page written by hand is replaced, the rest stays", () => {
  const text = "before\n<!-- list: made -->\nold $1\n<!-- /list -->\nafter\n";
  const once = replaceBlock(text, "list", "new $& text");
  expect(once).toBe("before\n<!-- list: made -->\n\nnew $& text\n\n<!-- /list -->\nafter\n");
  expect(replaceBlock(once, "list", "new $& text")).toBe(once);
  expect(() => replaceBlock(text, "other", "")).toThrow("other");
});

test("a page that differs, and one that isn't there, have drifted", async () => {
  expect(await findDrift(dir, pages)).toEqual(pages.map(({ path }) => path));
  for (const { path, text } of pages) {
    await mkdir(dirname(join(dir, path)), { recursive: true });
    await writeFile(join(dir, path), text);
  }
  expect(await findDrift(dir, pages)).toEqual([]);
  const [first] = pages;
  await writeFile(join(dir, first?.path ?? ""), `${first?.text}\nmore\n`);
  expect(await findDrift(dir, pages)).toEqual([first?.path ?? ""]);
});
