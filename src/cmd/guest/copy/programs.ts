/** The programs of a copy: tar here, ssh with tar there, and the gate between them. */

import { BangerError, isErrno } from "../../../shared/errors.ts";
import type { Interrupts } from "../../terminal/interrupts.ts";
import type { TarGate } from "./tar-gate.ts";

interface Stage {
  readonly argv: readonly string[];
  readonly stdin: "inherit" | "ignore" | "pipe";
  readonly stdout: "inherit" | "ignore" | "pipe";
}

/** What the tools say is read in one language. @throws BangerError TOOL_MISSING */
export function startTool<
  const In extends "inherit" | "ignore" | "pipe" | ReadableStream,
  const Out extends "inherit" | "ignore" | "pipe",
>(argv: readonly string[], stdin: In, stdout: Out): Bun.Subprocess<In, Out, "pipe"> {
  try {
    return Bun.spawn([...argv], { stdin, stdout, stderr: "pipe", env: { ...process.env, LC_ALL: "C" } });
  } catch (thrown) {
    if (isErrno(thrown, "ENOENT"))
      throw new BangerError("TOOL_MISSING", `${argv[0]} is not installed, and banger cp needs it`, { cause: thrown });
    throw thrown;
  }
}

type Tool = Bun.Subprocess<Bun.SpawnOptions.Writable, Bun.SpawnOptions.Readable, "pipe">;

/** Waits for the programs, stopping them at an interrupt. @throws BangerError FAILED with what the first one to fail said */
export async function finish(
  children: readonly Tool[],
  interrupts: Interrupts,
  work?: () => Promise<void>,
): Promise<string> {
  const stop = (): void => {
    for (const child of children) child.kill("SIGTERM");
  };
  interrupts.signal.addEventListener("abort", stop);
  try {
    const saying = Promise.all(children.map(async ({ stderr }) => (await new Response(stderr).text()).trim()));
    const failure = await work?.().then(
      () => null,
      (thrown: unknown) => {
        stop();
        return { thrown };
      },
    );
    const said = await saying;
    await Promise.all(children.map(async (child) => await child.exited));
    interrupts.signal.throwIfAborted();
    if (failure !== null && failure !== undefined && !isErrno(failure.thrown, "EPIPE")) throw failure.thrown;
    if (children.every(({ exitCode }) => exitCode === 0)) return said.filter((text) => text !== "").join("\n");
    // A packer that was ended by its broken pipe has nothing to say; one that failed by itself says why the unpacker did.
    const failed = children.findIndex(({ exitCode }, i) => exitCode !== 0 && exitCode !== null && said[i] !== "");
    const status = children.find(({ exitCode }) => exitCode !== 0 && exitCode !== null)?.exitCode ?? null;
    throw new BangerError("FAILED", said[failed] ?? `a program of the copy ended with status ${status ?? "unknown"}`, {
      details: { status: children.at(-1)?.exitCode ?? status },
    });
  } finally {
    interrupts.signal.removeEventListener("abort", stop);
  }
}

/** One program, or two with a pipe between; returns what they remarked. @throws BangerError FAILED, TOOL_MISSING */
export async function runAll([first, second]: readonly Stage[], interrupts: Interrupts): Promise<string> {
  if (first === undefined) return "";
  interrupts.signal.throwIfAborted();
  const one = startTool(first.argv, first.stdin === "inherit" ? "inherit" : "ignore", first.stdout);
  if (second === undefined) return await finish([one], interrupts);
  const two = startTool(second.argv, one.stdout as ReadableStream, second.stdout);
  return await finish([one, two], interrupts);
}

/** What passes the gate of the packer's stream goes on to `to`. @throws BangerError FAILED */
export async function runGated(
  pack: readonly string[],
  gate: TarGate,
  to: Bun.Subprocess<"pipe", "ignore", "pipe"> | { write(bytes: Uint8Array): void },
  interrupts: Interrupts,
  show: (bytes: number) => void = () => undefined,
): Promise<string> {
  let bytes = 0;
  const packer = startTool(pack, "ignore", "pipe");
  const unpacker = "pid" in to ? to : null;
  const write = async (bytes: Uint8Array): Promise<void> => {
    if (unpacker === null) (to as { write(bytes: Uint8Array): void }).write(bytes);
    else {
      await unpacker.stdin.write(bytes);
      await unpacker.stdin.flush();
    }
  };
  return await finish(unpacker === null ? [packer] : [packer, unpacker], interrupts, async () => {
    try {
      for await (const chunk of packer.stdout) {
        for (const passed of gate.push(chunk)) await write(passed);
        bytes += chunk.length;
        show(bytes);
      }
      // A packer that failed says more than the end of its stream.
      if ((await packer.exited) === 0) await write(gate.end());
    } finally {
      await unpacker?.stdin.end();
    }
  });
}
