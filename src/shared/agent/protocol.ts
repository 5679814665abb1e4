/**
 * What the host and the agent in a guest say to each other: the one declaration. The codec (`frames.ts`), the agent's C header, the page
 * docs/reference/agent-protocol.md and the fuzzers all come from these tables.
 *
 * A channel is a stream of bytes: a vsock connection under Firecracker, a virtio-serial port under QEMU. A port has no beginning and no
 * end that both sides see alike, so the stream begins with a handshake: the host sends HELLO_MAGIC and 16 random bytes; the agent
 * answers with ANSWER_MAGIC, the same 16 bytes, and its version. Each side throws away everything before that. After it come frames: the
 * payload's length (u32), the type (u8), the payload. Numbers are little-endian. Type 0 is never sent: a run of zeros ends any session.
 *
 * A session is one request. The agent's last word is `exited`, `error`, `done` or `ready`; after it, the channel waits for the next handshake.
 */

/** Raised by one when a frame changes its meaning. Both sides refuse another version. */
export const AGENT_PROTOCOL = 1;

/**
 * The agent's port under Firecracker, on the guest's side of the vsock device. Linux lets only root listen on ports below 1024
 * (LAST_RESERVED_PORT, net/vmw_vsock/af_vsock.c): no user of the guest takes the agent's place when it is gone.
 */
export const AGENT_VSOCK_PORT = 1023;
/** How many virtio-serial ports a guest has under QEMU: so many sessions at once. */
export const AGENT_SERIAL_PORTS = 16;
/** Name of such a port in the guest (/sys/class/virtio-ports/…/name) is this and its number from 0. */
export const AGENT_SERIAL_PREFIX = "banger.agent.";

export const MAGIC_BYTES = 16;
export const NONCE_BYTES = 16;
export const HELLO_MAGIC = "\u0000banger-hello-1\n";
export const ANSWER_MAGIC = "\u0000banger-agent-1\n";
/** Length and type. */
export const HEADER_BYTES = 5;

export const AGENT_LIMITS = {
  /** Longest payload of a frame. */
  payloadBytes: 65_536,
  /** All arguments, each with the NUL that ends it: what Linux takes at most with the usual stack limit of 8 MiB. */
  argumentsBytes: 2 * 1024 * 1024,
  /** All variables, each with the NUL that ends it. */
  variablesBytes: 2 * 1024 * 1024,
  directoryBytes: 4096,
  userBytes: 256,
  /** Bytes of stdin that the host may send ahead of what the agent gave credit for. */
  stdinWindowBytes: 262_144,
  /** Text of an error. */
  errorBytes: 1024,
  /** Name of a process in `listener`. */
  processBytes: 64,
  listeners: 1000,
} as const;

/** Bits of `exec.flags`. */
export const EXEC_FLAGS = {
  /** The command gets a terminal of `rows` and `columns`; its output is all `stdout`. */
  terminal: 1,
  /** Runs the user's login shell as such: without arguments interactively, with arguments as `-c` on them joined by blanks. */
  login: 2,
  /** The command's input is /dev/null. */
  noStdin: 4,
  /** The command goes on when the channel breaks. */
  keep: 8,
  /** Waits for the end of the output, though the process has ended and others hold it. */
  waitOutput: 16,
} as const;

/** Bits of `exited.flags`. */
export const EXITED_FLAGS = {
  /** `exec.timeoutMs` was over. */
  timedOut: 1,
  /** Somebody else still held the output when the process had ended. */
  outputHeld: 2,
} as const;

/** Bits of `ready.flags`. */
export const READY_FLAGS = {
  /** The agent mounted the work disk on /root. */
  workDisk: 1,
  /** The agent is the guest's init. */
  isInit: 2,
} as const;

export const POWER_KINDS = { poweroff: 1, reboot: 2 } as const;

/** `error.code`. */
export const AGENT_ERRORS = {
  /** The host broke the protocol. */
  protocol: 1,
  /** The directory can't be entered; `errno` says why. */
  directory: 2,
  /** There is no such user. */
  user: 3,
  /** execve: ENOENT and its like; a shell's 127. */
  notFound: 4,
  /** execve: anything else; a shell's 126. */
  notExecutable: 5,
  /** Another system call; the text says which. */
  system: 6,
} as const;

export type FieldType = "u8" | "u16" | "u32" | "u64" | "i32";

export interface FrameShape {
  readonly type: number;
  readonly to: "guest" | "host";
  /** Fields of fixed size, in order. u64 is a bigint. */
  readonly fields: Readonly<Record<string, FieldType>>;
  /** Whether bytes follow the fields. */
  readonly bytes: boolean;
  readonly why: string;
}

const frame = <const F extends FrameShape>(shape: F): F => shape;

export const FRAMES = {
  waitReady: frame({
    type: 1,
    to: "guest",
    fields: {},
    bytes: false,
    why: "Asks for `ready` as soon as commands can run.",
  }),
  argument: frame({
    type: 2,
    to: "guest",
    fields: {},
    bytes: true,
    why: "More of the arguments: bytes, each argument ended by a NUL, cut anywhere.",
  }),
  variable: frame({
    type: 3,
    to: "guest",
    fields: {},
    bytes: true,
    why: "More of the variables, `NAME=value` and a NUL each, on top of the user's login environment.",
  }),
  directory: frame({ type: 4, to: "guest", fields: {}, bytes: true, why: "The directory; left out, the user's home." }),
  user: frame({ type: 5, to: "guest", fields: {}, bytes: true, why: "A user's name or number; left out, root." }),
  exec: frame({
    type: 6,
    to: "guest",
    fields: { flags: "u32", rows: "u16", columns: "u16", timeoutMs: "u32", killAfterMs: "u32" },
    bytes: false,
    why: "Starts what the frames before it described. After `timeoutMs` (0: never) everything of it gets TERM, and `killAfterMs` later KILL.",
  }),
  stdin: frame({ type: 7, to: "guest", fields: {}, bytes: true, why: "Input, within the window." }),
  stdinEnd: frame({ type: 8, to: "guest", fields: {}, bytes: false, why: "The input's end." }),
  resize: frame({
    type: 9,
    to: "guest",
    fields: { rows: "u16", columns: "u16" },
    bytes: false,
    why: "The terminal's new size.",
  }),
  signal: frame({
    type: 10,
    to: "guest",
    fields: { number: "u8" },
    bytes: false,
    why: "Sends a signal to the command's process group; KILL to everything of the exec.",
  }),
  clock: frame({
    type: 11,
    to: "guest",
    fields: { seconds: "u64", nanoseconds: "u32" },
    bytes: false,
    why: "Sets the clock (Unix time); `done`.",
  }),
  power: frame({
    type: 12,
    to: "guest",
    fields: { kind: "u8" },
    bytes: false,
    why: "Writes caches and asks init to end the guest; `done` when it took the order.",
  }),
  usage: frame({ type: 13, to: "guest", fields: {}, bytes: false, why: "Asks for `counters`, then `done`." }),
  listeners: frame({ type: 14, to: "guest", fields: {}, bytes: false, why: "Asks for each `listener`, then `done`." }),

  started: frame({ type: 128, to: "host", fields: { pid: "u32" }, bytes: false, why: "The command runs." }),
  stdout: frame({ type: 129, to: "host", fields: {}, bytes: true, why: "Output." }),
  stderr: frame({ type: 130, to: "host", fields: {}, bytes: true, why: "Error output." }),
  credit: frame({ type: 131, to: "host", fields: { bytes: "u32" }, bytes: false, why: "So much of stdin was taken." }),
  exited: frame({
    type: 132,
    to: "host",
    fields: {
      status: "i32",
      signal: "u8",
      flags: "u8",
      userMicroseconds: "u64",
      systemMicroseconds: "u64",
      wallMicroseconds: "u64",
      peakKib: "u64",
    },
    bytes: false,
    why: "The command ended and its output is over. `signal` is 0, or what ended it (then `status` is 128 and the signal).",
  }),
  error: frame({
    type: 133,
    to: "host",
    fields: { code: "u16", errno: "i32" },
    bytes: true,
    why: "The request failed; the bytes say what, in UTF-8.",
  }),
  done: frame({ type: 134, to: "host", fields: {}, bytes: false, why: "The request is done." }),
  ready: frame({
    type: 135,
    to: "host",
    fields: { flags: "u32" },
    bytes: true,
    why: "Commands can run. The bytes are the kernel's boot id.",
  }),
  counters: frame({
    type: 136,
    to: "host",
    fields: { rxBytes: "u64", txBytes: "u64" },
    bytes: false,
    why: "Bytes counted by all interfaces but loopback.",
  }),
  listener: frame({
    type: 137,
    to: "host",
    fields: { port: "u16" },
    bytes: true,
    why: "A TCP port listened on; the bytes are the process's name, or nothing.",
  }),
} as const satisfies Readonly<Record<string, FrameShape>>;

export type FrameName = keyof typeof FRAMES;
