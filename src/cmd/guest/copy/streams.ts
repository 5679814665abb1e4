/** What flows between the programs of a copy. Nothing is read before there is room for it. */

import { StandardInput } from "../../terminal/input.ts";
import type { Interrupts } from "../../terminal/interrupts.ts";
import type { GuestProgram, Sink, StartInGuest } from "./guest-program.ts";
import { finish, partOf, startTool, writeTo } from "./programs.ts";
import type { TarGate } from "./tar-gate.ts";

type Gate = Pick<TarGate, "push" | "end">;
/** Hears how many bytes have passed. */
export type Show = (bytes: number) => void;

/** Gives this process's stdin to a program in the guest. Returns what it remarked. @throws BangerError FAILED, EXEC_FAILED */
export async function sendInput(start: StartInGuest, argv: readonly string[], interrupts: Interrupts): Promise<string> {
  const program = await start({ argv, hasInput: true, stdout: null });
  await using input = new StandardInput();
  return await finish([program], interrupts, async () => {
    const over = program.ended.then(
      () => null,
      () => null,
    );
    for (;;) {
      const bytes = await Promise.race([input.read(), over]);
      if (bytes === null || !(await program.write(bytes))) break;
    }
    program.end();
  });
}

/** Gives the output of a tool here to a program in the guest. @throws BangerError FAILED, TOOL_MISSING, EXEC_FAILED */
export async function sendOutputOf(
  tool: readonly string[],
  start: StartInGuest,
  argv: readonly string[],
  interrupts: Interrupts,
  show: Show,
): Promise<string> {
  const packer = startTool(tool, "ignore", "pipe");
  let program: GuestProgram;
  try {
    program = await start({ argv, hasInput: true, stdout: null });
  } catch (thrown) {
    packer.kill("SIGTERM");
    throw thrown;
  }
  return await finish([partOf(packer), program], interrupts, async () => {
    let sent = 0;
    for await (const bytes of packer.stdout) {
      if (!(await program.write(bytes))) {
        packer.kill("SIGTERM");
        break;
      }
      sent += bytes.length;
      show(sent);
    }
    program.end();
  });
}

/** Gives the output of a program in the guest to `take`. @throws BangerError FAILED, EXEC_FAILED; what `take` throws */
export async function receive(
  start: StartInGuest,
  argv: readonly string[],
  take: Sink,
  interrupts: Interrupts,
): Promise<string> {
  const program = await start({ argv, hasInput: false, stdout: take });
  return await finish([program], interrupts);
}

/** Gives the output of a program in the guest to a tool here. @throws BangerError FAILED, TOOL_MISSING, EXEC_FAILED */
export async function receiveInto(
  tool: readonly string[],
  start: StartInGuest,
  argv: readonly string[],
  interrupts: Interrupts,
  gate: Gate | null,
  show: Show = () => undefined,
): Promise<string> {
  const unpacker = startTool(tool, "pipe", "ignore");
  let received = 0;
  const take = async (bytes: Uint8Array): Promise<void> => {
    await writeTo(unpacker.stdin, gate === null ? bytes : joined(gate.push(bytes)));
    received += bytes.length;
    show(received);
  };
  let program: GuestProgram;
  try {
    program = await start({ argv, hasInput: false, stdout: take });
  } catch (thrown) {
    unpacker.kill("SIGTERM");
    throw thrown;
  }
  return await finish([program, partOf(unpacker)], interrupts, async () => {
    try {
      // A packer that failed says more than the end of its stream.
      if ((await program.ended).status === 0 && gate !== null) await writeTo(unpacker.stdin, gate.end());
    } finally {
      await unpacker.stdin.end();
    }
  });
}

/** Gives what passes the gate to `take`. @throws BangerError FAILED, EXEC_FAILED; what `take` throws */
export async function receiveGated(
  start: StartInGuest,
  argv: readonly string[],
  gate: Gate,
  take: Sink,
  interrupts: Interrupts,
): Promise<string> {
  const pass = async (bytes: Uint8Array): Promise<void> => {
    await take(joined(gate.push(bytes)));
  };
  const said = await receive(start, argv, pass, interrupts);
  await take(gate.end());
  return said;
}

/** One write for what passed of one piece. Of a large file, the piece passes as it is. */
const joined = ([first = new Uint8Array(0), ...others]: readonly Uint8Array[]): Uint8Array =>
  others.length === 0 ? first : Buffer.concat([first, ...others]);
