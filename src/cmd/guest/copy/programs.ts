/** The programs of a copy on this host, and how programs that work together end. */

import { BangerError, isErrno } from "../../../shared/errors.ts";
import type { Interrupts } from "../../terminal/interrupts.ts";
import { GNU_OPTIONS } from "./guest-lines.ts";

/** What is kept of what a program says: its first lines tell the most. */
const REMARKS_BYTES = 65_536;

/** One program of several that work together. */
export interface Part {
  stop(): void;
  /** Settles once it has ended and its output was taken. `status` is null if a signal ended it. */
  readonly ended: Promise<Ending>;
}

export interface Ending {
  readonly status: number | null;
  /** Its stderr, of bounded length. */
  readonly said: string;
}

/** The beginning of a program's stderr. */
export class Remarks {
  readonly #pieces: Buffer[] = [];
  #length = 0;

  add(bytes: Uint8Array): void {
    const taken = Buffer.from(bytes.subarray(0, REMARKS_BYTES - this.#length));
    if (taken.length === 0) return;
    this.#pieces.push(taken);
    this.#length += taken.length;
  }

  get text(): string {
    return Buffer.concat(this.#pieces).toString("utf8").trim();
  }
}

/** What the tools say is read in one language. GNU's tar has the same options as in a guest. @throws BangerError TOOL_MISSING */
export function startTool<const In extends "ignore" | "pipe", const Out extends "ignore" | "pipe">(
  argv: readonly string[],
  stdin: In,
  stdout: Out,
): Bun.Subprocess<In, Out, "pipe"> {
  const env = { ...process.env, LC_ALL: "C", TAR_OPTIONS: GNU_OPTIONS.join(" ") };
  try {
    return Bun.spawn([...argv], { stdin, stdout, stderr: "pipe", env });
  } catch (thrown) {
    if (isErrno(thrown, "ENOENT"))
      throw new BangerError("TOOL_MISSING", `${argv[0]} is not installed, and banger cp needs it`, { cause: thrown });
    throw thrown;
  }
}

/** Resolves when there is room for more. @throws EPIPE when the tool reads no more */
export async function writeTo(stdin: Bun.FileSink, bytes: Uint8Array): Promise<void> {
  await stdin.write(bytes);
  await stdin.flush();
}

/** A tool of this host, whose output someone else takes. */
export function partOf(child: Bun.Subprocess<"ignore" | "pipe", "ignore" | "pipe", "pipe">): Part {
  const remarks = new Remarks();
  const listen = async (): Promise<void> => {
    for await (const bytes of child.stderr) remarks.add(bytes);
  };
  return {
    stop: () => child.kill("SIGTERM"),
    ended: Promise.all([listen(), child.exited]).then(() => ({ status: child.exitCode, said: remarks.text })),
  };
}

/**
 * Waits for the programs and the work between them. An interrupt, or one that fails, stops all. Returns what they remarked.
 * @throws BangerError FAILED with what the first one to fail said; what the work threw; CANCELLED
 */
export async function finish(
  parts: readonly Part[],
  interrupts: Interrupts,
  work: () => Promise<void> = async () => await Promise.resolve(),
): Promise<string> {
  const stop = (): void => {
    for (const part of parts) part.stop();
  };
  const failures: unknown[] = [];
  const orStop = async <T>(promise: Promise<T>): Promise<T | null> => {
    try {
      return await promise;
    } catch (thrown) {
      failures.push(thrown);
      stop();
      return null;
    }
  };
  interrupts.signal.addEventListener("abort", stop);
  try {
    const [ends] = await Promise.all([Promise.all(parts.map(({ ended }) => orStop(ended))), orStop(work())]);
    interrupts.signal.throwIfAborted();
    // A pipe breaks because its reader failed, and that one says why.
    const failure = failures.find((thrown) => !isErrno(thrown, "EPIPE"));
    if (failure !== undefined) throw failure;
    return remarksOf(ends.map((end) => end ?? { status: null, said: "" }));
  } finally {
    interrupts.signal.removeEventListener("abort", stop);
  }
}

/** @throws BangerError FAILED */
function remarksOf(ends: readonly Ending[]): string {
  if (ends.every(({ status }) => status === 0))
    return ends
      .map(({ said }) => said)
      .filter((said) => said !== "")
      .join("\n");
  const failed = ends.filter(({ status }) => status !== 0 && status !== null);
  // A packer that was ended by its broken pipe has nothing to say; one that failed by itself says why the unpacker did.
  const said = failed.find((end) => end.said !== "")?.said;
  const status = failed[0]?.status ?? null;
  throw new BangerError("FAILED", said ?? `a program of the copy ended with status ${status ?? "unknown"}`, {
    details: { status: ends.at(-1)?.status ?? status },
  });
}
