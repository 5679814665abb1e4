/** What the agent's answers say, checked: a hostile guest chose every byte. */

import { BangerError, type ErrorCode } from "../errors.ts";
import { brokenProtocol, type FrameTo } from "./frames.ts";
import { AGENT_ERRORS, EXITED_FLAGS, READY_FLAGS } from "./protocol.ts";

type Answer<N extends FrameTo<"host">["name"]> = Extract<FrameTo<"host">, { readonly name: N }>;

export interface AgentExit {
  /** Of the process; 128 and the signal if a signal ended it. */
  readonly status: number;
  /** 0, or what ended the process. */
  readonly signal: number;
  readonly timedOut: boolean;
  /** Someone else still held the output when the process had ended. */
  readonly outputHeld: boolean;
  readonly userMicroseconds: number;
  readonly systemMicroseconds: number;
  readonly wallMicroseconds: number;
  readonly peakKib: number;
}

export interface AgentReady {
  readonly bootId: string;
  /** The agent mounted the work disk. */
  readonly workDisk: boolean;
  /** The agent is the guest's init. */
  readonly isInit: boolean;
}

export type RefusalReason = keyof typeof AGENT_ERRORS;

/** The agent did not do what it was asked. `reason` and `errno` (0: none) say why, `text` in words. */
export class AgentRefusal extends BangerError {
  readonly reason: RefusalReason;
  readonly errno: number;
  readonly text: string;

  constructor(code: ErrorCode, reason: RefusalReason, errno: number, text: string) {
    super(code, `the guest's agent: ${text === "" ? reason : text}`, { details: { reason, errno } });
    this.reason = reason;
    this.errno = errno;
    this.text = text;
  }
}

const MOST_STATUS = 255;
const MOST_SIGNAL = 64;
const SIGNAL_STATUS = 128;
const MOST_ERRNO = 4095;
/** The kernel's PID_MAX_LIMIT. */
const MOST_PID = 4_194_304;
const BOOT_ID = /^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

const REASONS: ReadonlyMap<number, RefusalReason> = new Map(
  Object.entries(AGENT_ERRORS).map(([reason, code]) => [code, reason as RefusalReason]),
);

/** One line of text. Characters that a terminal obeys become blanks, so that no answer looks like banger's own lines. */
function textOf(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
    .toString("utf8")
    .replace(/[\p{Cc}\p{Zl}\p{Zp}]+/gu, " ")
    .trim();
}

/** @throws BangerError GUEST_FAILED */
function inRange(what: string, value: number, least: number, most: number): number {
  if (value < least || value > most) throw brokenProtocol(`${what} is ${value}`);
  return value;
}

function countOf(what: string, value: bigint): number {
  if (value > BigInt(Number.MAX_SAFE_INTEGER)) throw brokenProtocol(`${what} is ${value}`);
  return Number(value);
}

/** @throws BangerError GUEST_FAILED for bits that none of `known` has */
function checkFlags(what: string, flags: number, known: Readonly<Record<string, number>>): void {
  const all = Object.values(known).reduce((sum, bit) => sum | bit, 0);
  if ((flags & ~all) !== 0) throw brokenProtocol(`the flags of "${what}" are ${flags}`);
}

/** @throws BangerError GUEST_FAILED */
export const pidOf = ({ pid }: Answer<"started">): number => inRange("a process id", pid, 1, MOST_PID);

/** @throws BangerError GUEST_FAILED */
export function exitOf(frame: Answer<"exited">): AgentExit {
  checkFlags("exited", frame.flags, EXITED_FLAGS);
  const signal = inRange("a signal", frame.signal, 0, MOST_SIGNAL);
  const status = inRange("an exit status", frame.status, 0, MOST_STATUS);
  if (signal !== 0 && status !== SIGNAL_STATUS + signal)
    throw brokenProtocol(`an exit status of ${status} for signal ${signal}`);
  return {
    status,
    signal,
    timedOut: (frame.flags & EXITED_FLAGS.timedOut) !== 0,
    outputHeld: (frame.flags & EXITED_FLAGS.outputHeld) !== 0,
    userMicroseconds: countOf("the user time", frame.userMicroseconds),
    systemMicroseconds: countOf("the system time", frame.systemMicroseconds),
    wallMicroseconds: countOf("the wall time", frame.wallMicroseconds),
    peakKib: countOf("the peak memory", frame.peakKib),
  };
}

/** @throws BangerError GUEST_FAILED */
export function refusalOf(code: ErrorCode, frame: Answer<"error">): AgentRefusal {
  const reason = REASONS.get(frame.code);
  if (reason === undefined) throw brokenProtocol(`an error of code ${frame.code}`);
  return new AgentRefusal(code, reason, inRange("an errno", frame.errno, 0, MOST_ERRNO), textOf(frame.bytes));
}

/** @throws BangerError GUEST_FAILED */
export function readyOf({ flags, bytes }: Answer<"ready">): AgentReady {
  checkFlags("ready", flags, READY_FLAGS);
  const bootId = textOf(bytes);
  if (!BOOT_ID.test(bootId)) throw brokenProtocol("the boot id is no UUID");
  return {
    bootId,
    workDisk: (flags & READY_FLAGS.workDisk) !== 0,
    isInit: (flags & READY_FLAGS.isInit) !== 0,
  };
}

/** @throws BangerError GUEST_FAILED */
export function usageOf({ rxBytes, txBytes }: Answer<"counters">): { rxBytes: number; txBytes: number } {
  return { rxBytes: countOf("a counter", rxBytes), txBytes: countOf("a counter", txBytes) };
}

/** `process` is the name that the process gave itself, or null. @throws BangerError GUEST_FAILED */
export function listenerOf({ port, bytes }: Answer<"listener">): { port: number; process: string | null } {
  const name = textOf(bytes);
  return { port: inRange("a port", port, 1, 65_535), process: name === "" ? null : name };
}
