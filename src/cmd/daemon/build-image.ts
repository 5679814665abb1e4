/** Builds an image of an installed system in a process of the owner's own: the daemon's sandbox allows no build. */

import type { Progress } from "../../shared/contract/owner-api.ts";
import { BangerError, type ErrorDocument } from "../../shared/errors.ts";
import { selfArgv } from "../../shared/places/self.ts";

const LINE_LIMIT = 64 * 1024;

/**
 * Waits until it is built. An abort is passed on, and what the build had made is gone when this throws.
 * @throws BangerError the build's own
 */
export async function buildImageHere(
  name: string,
  again: boolean,
  progress: (progress: Progress) => void,
  signal: AbortSignal,
  program: readonly string[] = selfArgv(),
): Promise<void> {
  const child = Bun.spawn([...program, "internal", "build-image", name, ...(again ? ["again"] : [])], {
    stdin: "ignore",
    stdout: "ignore",
    stderr: "pipe",
    // Ctrl-c reaches the CLI only, which then says so in its own time.
    detached: true,
  });
  const cancel = (): void => child.kill("SIGTERM");
  signal.addEventListener("abort", cancel, { once: true });
  if (signal.aborted) cancel();
  let failure: BangerError | null = null;
  let said = "";
  const read = (line: string): void => {
    try {
      const { progress: step, error } = JSON.parse(line) as { progress?: Progress; error?: ErrorDocument };
      if (step !== undefined) progress(step);
      if (error !== undefined) failure = BangerError.fromDocument(error);
    } catch {
      said = line;
    }
  };
  let partial = "";
  const decoder = new TextDecoder();
  try {
    for await (const chunk of child.stderr) {
      const lines = (partial + decoder.decode(chunk, { stream: true })).split("\n");
      partial = (lines.pop() ?? "").slice(-LINE_LIMIT);
      for (const line of lines) if (line !== "") read(line);
    }
    const status = await child.exited;
    signal.throwIfAborted();
    if (status !== 0) throw failure ?? new BangerError("IMAGE_BUILD_FAILED", said || `the build ended with ${status}`);
  } finally {
    signal.removeEventListener("abort", cancel);
  }
}
