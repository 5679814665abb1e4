/** The root disk: a qcow2 overlay over the image's read-only root file system. Source: qemu-img(1). */

import { stat } from "node:fs/promises";
import { runTool } from "../../host/run-tool.ts";

const TOOL_TIMEOUT_MS = 60_000;
/** qemu-img works with threads, mostly idle. */
const IMG_THREADS = 32;

/** Makes the overlay. Its size is at least the image's; the guest grows the file system into it at boot. */
export async function createRootOverlay(
  path: string,
  imagePath: string,
  bytes: number,
  signal: AbortSignal,
): Promise<void> {
  const size = Math.max(bytes, (await stat(imagePath)).size);
  await runTool(["qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", imagePath, path, String(size)], {
    timeoutMs: TOOL_TIMEOUT_MS,
    signal,
  });
}

/** What the VMM wrote names no other file here: the overlay is opened as qcow2, without its backing file, and confined. */
export async function growRootOverlay(path: string, bytes: number, signal: AbortSignal): Promise<void> {
  const overlay = `json:${JSON.stringify({ driver: "qcow2", backing: null, file: { driver: "file", filename: path } })}`;
  await runTool(["qemu-img", "resize", "-q", overlay, String(bytes)], {
    timeoutMs: TOOL_TIMEOUT_MS,
    signal,
    confined: { writes: [path], processes: IMG_THREADS },
  });
}
