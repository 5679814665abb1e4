/** The stream to a guest's agent on another machine (BANGER_HOST). A file of its own: only then are its modules worth their loading. */

import { spawn } from "node:child_process";
import { Duplex, type Readable } from "node:stream";
import { BangerError } from "../../shared/errors.ts";

/** ssh and banger on the other machine. */
const FAR_TIMEOUT_MS = 20_000;
/** What `banger internal guest-stream` says once it is connected: only then a lost hello would be repeated soon. */
export const STREAM_GREETING = "banger guest-stream 1\n";
const GREETING_WITHIN_BYTES = 65_536;

/**
 * The bytes of a guest's agent on another machine, from banger there. They end with this process, however it ends.
 * @throws BangerError GUEST_NOT_READY
 */
export async function openFarStream(via: readonly string[], id: string, signal: AbortSignal): Promise<Duplex> {
  const patience = AbortSignal.any([signal, AbortSignal.timeout(FAR_TIMEOUT_MS)]);
  const [ssh = "ssh", ...options] = via;
  const child = spawn(ssh, ["-T", ...options, `banger internal guest-stream ${id}`], {
    stdio: ["pipe", "pipe", "ignore"],
    // Away from the terminal's signals: they are for the command in the guest.
    detached: true,
  });
  const { stdin, stdout } = child;
  const stream = new Duplex({
    read: () => stdout.resume(),
    write: (chunk: Buffer, _, done) => stdin.write(chunk, done),
    final: (done) => stdin.end(done),
    destroy: (error, done) => {
      stdin.destroy();
      stdout.destroy();
      child.kill("SIGTERM");
      done(error);
    },
  });
  // Whoever reads or writes it hears of its end.
  stream.on("error", () => undefined);
  for (const part of [child, stdin, stdout]) part.on("error", (error: Error) => stream.destroy(error));
  try {
    const rest = await readGreeting(stdout, patience);
    stdout
      .on("end", () => stream.push(null))
      .on("data", (chunk: Buffer) => {
        if (!stream.push(chunk)) stdout.pause();
      });
    if (rest.length > 0) stream.push(rest);
  } catch (thrown) {
    stream.destroy();
    throw thrown;
  }
  return stream;
}

/** Waits for the greeting of banger there; what its login shell says before is thrown away. Returns what came after. */
async function readGreeting(stdout: Readable, signal: AbortSignal): Promise<Buffer> {
  const { promise, resolve, reject } = Promise.withResolvers<Buffer>();
  const fail = (): void => reject(new BangerError("GUEST_NOT_READY", "banger on the other machine did not answer"));
  let said: Buffer = Buffer.alloc(0);
  const onData = (chunk: Buffer): void => {
    said = Buffer.concat([said, chunk]);
    const at = said.indexOf(STREAM_GREETING);
    if (at !== -1) resolve(said.subarray(at + STREAM_GREETING.length));
    else if (said.length > GREETING_WITHIN_BYTES) fail();
  };
  stdout.on("data", onData).once("close", fail);
  signal.addEventListener("abort", fail, { once: true });
  if (signal.aborted) fail();
  try {
    return await promise;
  } finally {
    stdout.off("data", onData).off("close", fail).pause();
    signal.removeEventListener("abort", fail);
  }
}
