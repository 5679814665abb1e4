/** The guest agent's program, which comes with this one: embedded when compiled, from dist/guest in a checkout. */

import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { BangerError } from "../errors.ts";

/** The compiler puts a hash between the name and its end: `banger-agent-x64-1a2b3c.elf`. */
const EMBEDDED = /^banger-agent-[\w-]+\.elf$/;

/** @throws BangerError FAILED in a checkout that wasn't built */
export async function readAgentBinary(): Promise<Uint8Array> {
  const embedded = Bun.embeddedFiles.find((file) => EMBEDDED.test((file as File).name));
  if (embedded !== undefined) return new Uint8Array(await embedded.arrayBuffer());
  const path = join(import.meta.dir, `../../../dist/guest/banger-agent-${process.arch}.elf`);
  return await readFile(path).catch((cause: unknown) => {
    throw new BangerError("FAILED", `the guest agent was not built: there is no ${path}`, {
      cause,
      hint: "bun run build",
    });
  });
}
