import { afterEach, beforeEach, expect, test } from "bun:test";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { buildImageHere } from "../../../../src/cmd/daemon/build-image.ts";
import { BangerError } from "../../../../src/shared/errors.ts";
import type { Progress } from "../../../../src/shared/contract/owner-api.ts";

let dir: string;
const { signal } = new AbortController();

beforeEach(async () => {
  dir = await mkdtemp("/tmp/bt-bi-");
});
afterEach(async () => await rm(dir, { recursive: true, force: true }));

/** A program that does what `body` says in place of a build. */
async function program(body: string): Promise<readonly string[]> {
  const path = join(dir, "build.ts");
  await writeFile(path, `const say = (x: unknown) => console.error(JSON.stringify(x));\n${body}`);
  return [process.execPath, path];
}

test("what the build says is shown, and its words are passed on", async () => {
  const seen: Progress[] = [];
  const argv = await program(`say({ progress: { stage: "image", message: process.argv.slice(2).join(" ") } });`);
  await buildImageHere("debian-trixie", true, (progress) => seen.push(progress), signal, argv);
  expect(seen).toEqual([{ stage: "image", message: "internal build-image debian-trixie again" }]);
});

test("its failure keeps its code and hint", async () => {
  const argv = await program(
    `say({ error: { code: "TOOL_MISSING", message: "no mmdebstrap", hint: "sudo apt install mmdebstrap" } }); process.exit(30);`,
  );
  await expect(buildImageHere("x", false, () => undefined, signal, argv)).rejects.toMatchObject({
    code: "TOOL_MISSING",
    hint: "sudo apt install mmdebstrap",
  });
});

test("one that dies says its last words", async () => {
  const argv = await program(`console.error("out of paper"); process.exit(3);`);
  await expect(buildImageHere("x", false, () => undefined, signal, argv)).rejects.toMatchObject({
    code: "IMAGE_BUILD_FAILED",
    message: "out of paper",
  });
});

test("an abort is passed on, and waited for", async () => {
  const abort = new AbortController();
  const mark = join(dir, "undone");
  const argv = await program(
    `process.on("SIGTERM", async () => { await Bun.sleep(50); await Bun.write(${JSON.stringify(mark)}, ""); process.exit(1); });
     say({ progress: { stage: "image", message: "begun" } }); setInterval(() => {}, 1000);`,
  );
  const reason = new BangerError("CANCELLED", "cancelled");
  await expect(buildImageHere("x", false, () => abort.abort(reason), abort.signal, argv)).rejects.toMatchObject({
    code: "CANCELLED",
  });
  expect(await Bun.file(mark).exists()).toBe(true);
});
