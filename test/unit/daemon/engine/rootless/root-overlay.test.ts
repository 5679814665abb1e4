import { afterEach, beforeEach, expect, test } from "bun:test";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { createRootOverlay, growRootOverlay } from "../../../../../src/daemon/engine/rootless/root-overlay.ts";
import { runTool, toolPath } from "../../../../../src/daemon/host/run-tool.ts";

const MIB = 1024 ** 2;
const { signal } = new AbortController();
const needsQemuImg = test.skipIf(Bun.which("qemu-img", { PATH: toolPath() }) === null);

let dir: string;
let overlay: string;
beforeEach(async () => {
  dir = await mkdtemp("/tmp/banger, overlay ");
  overlay = join(dir, "root.qcow2");
  await writeFile(join(dir, "image"), new Uint8Array(4 * MIB));
});
afterEach(async () => {
  await rm(dir, { recursive: true, force: true });
});

const sizeOf = async (): Promise<unknown> => {
  const info = await runTool(["qemu-img", "info", "-U", "-f", "qcow2", "--output=json", overlay], {
    timeoutMs: 10_000,
  });
  return (JSON.parse(info.stdout) as Record<string, unknown>)["virtual-size"];
};

needsQemuImg("is as large as asked, at least as the image, and grows (needs qemu-img)", async () => {
  await createRootOverlay(overlay, join(dir, "image"), MIB, signal);
  expect(await sizeOf()).toBe(4 * MIB);
  await growRootOverlay(overlay, 64 * MIB, signal);
  expect(await sizeOf()).toBe(64 * MIB);
});

needsQemuImg("growing opens no file that the overlay names, whatever a VMM made it name (needs qemu-img)", async () => {
  await createRootOverlay(overlay, join(dir, "image"), MIB, signal);
  await runTool(["mkfifo", join(dir, "fifo")], { timeoutMs: 10_000 });
  for (const [index, backing] of [join(dir, "fifo"), join(dir, "gone"), "json:{}"].entries()) {
    await runTool(["qemu-img", "rebase", "-u", "-f", "qcow2", "-F", "raw", "-b", backing, overlay], {
      timeoutMs: 10_000,
    });
    await growRootOverlay(overlay, (64 + index) * MIB, signal);
    expect(await sizeOf()).toBe((64 + index) * MIB);
  }
});
