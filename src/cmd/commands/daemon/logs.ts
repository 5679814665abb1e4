import { open, readFile, stat } from "node:fs/promises";
import { readWhole } from "../../line/args.ts";
import { localPaths } from "../../daemon/client.ts";
import { defineCommand } from "../../line/command.ts";
import { BangerError } from "../../../shared/errors.ts";

const POLL_MS = 200;
const CHUNK_BYTES = 1024 * 1024;

export const command = defineCommand({
  args: {
    follow: { type: "boolean", alias: "f", description: "Follows the log until ctrl-c." },
    tail: { type: "string", alias: "n", valueHint: "lines", description: "Shows only the last N lines." },
  },
  examples: [
    ["banger daemon logs -n 20", "shows the last 20 entries, one JSON object per line"],
    ["banger daemon logs -f", "follows the log"],
  ],
  next: "banger daemon status",
  run: async ({ args, env, out, interrupts }) => {
    const tail = args.tail === undefined ? null : readWhole("--tail", args.tail, 0, 1_000_000);
    const path = localPaths(env).daemonLog;
    const bytes = await readFile(path).catch(() => null);
    if (bytes === null && args.follow !== true)
      throw new BangerError("FAILED", `there is no log at ${path} yet`, { hint: "banger daemon status" });
    // One character per byte.
    const lines = (bytes ?? Buffer.alloc(0)).toString("latin1").split(/(?<=\n)/);
    out.data(Buffer.from((tail === null ? lines : tail === 0 ? [] : lines.slice(-tail)).join(""), "latin1"));
    using reader = out.watchReader();
    let position = bytes?.length ?? 0;
    while (args.follow === true && !interrupts.signal.aborted) {
      const size = (await stat(path).catch(() => null))?.size ?? 0;
      reader.signal.throwIfAborted();
      if (size < position) position = 0;
      if (size === position) {
        await interrupts.sleep(POLL_MS);
        continue;
      }
      await using file = await open(path, "r");
      const { bytesRead, buffer } = await file.read(Buffer.alloc(CHUNK_BYTES), 0, CHUNK_BYTES, position);
      position += bytesRead;
      out.data(buffer.subarray(0, bytesRead));
    }
    return interrupts.exitStatus ?? 0;
  },
});
