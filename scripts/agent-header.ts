/** The agent's C header, made from the protocol's tables. Pure. */

import * as protocol from "../src/shared/agent/protocol.ts";

const C_TYPES: Readonly<Record<protocol.FieldType, string>> = {
  u8: "uint8_t",
  u16: "uint16_t",
  u32: "uint32_t",
  u64: "uint64_t",
  i32: "int32_t",
};
const FIELD_BYTES: Readonly<Record<protocol.FieldType, number>> = { u8: 1, u16: 2, u32: 4, u64: 8, i32: 4 };
/** C's headers define `errno` as a macro. */
const RENAMED_FIELDS: Readonly<Record<string, string>> = { errno: "error_number" };

const snake = (name: string): string => name.replaceAll(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
const upper = (name: string): string => snake(name).toUpperCase();

/** How many bytes a frame's fields take. */
export function fieldBytes(fields: Readonly<Record<string, protocol.FieldType>>): number {
  return Object.values(fields).reduce((sum, type) => sum + FIELD_BYTES[type], 0);
}

function defineNumbers(prefix: string, numbers: Readonly<Record<string, number>>): readonly string[] {
  return Object.entries(numbers).map(([name, value]) => `#define ${prefix}${upper(name)} ${value}`);
}

/** Octal escapes end after three digits, unlike C's hexadecimal ones. */
function quote(text: string): string {
  const escaped = [...Buffer.from(text, "latin1")].map((byte) => `\\${byte.toString(8).padStart(3, "0")}`);
  return `"${escaped.join("")}"`;
}

function defineStruct(name: string, fields: Readonly<Record<string, protocol.FieldType>>): readonly string[] {
  if (Object.keys(fields).length === 0) return [];
  const members = Object.entries(fields).map(
    ([field, type]) => `  ${C_TYPES[type]} ${RENAMED_FIELDS[field] ?? snake(field)};`,
  );
  return [`struct frame_${snake(name)} {`, ...members, "} __attribute__((packed));", ""];
}

/** protocol.h: limits, frame types, a packed struct for each frame with fields, and the shapes that the agent takes. */
export function agentHeader(): string {
  const frames = Object.entries<protocol.FrameShape>(protocol.FRAMES);
  const shapes = frames
    .filter(([, { to }]) => to === "guest")
    .map(([name, { fields, bytes }]) => `  X(FRAME_${upper(name)}, ${fieldBytes(fields)}, ${bytes ? 1 : 0})`);
  return [
    "/* Made by scripts/build-agent.ts from src/shared/agent/protocol.ts. */",
    "#ifndef BANGER_PROTOCOL_H",
    "#define BANGER_PROTOCOL_H",
    "",
    "#include <stdint.h>",
    "",
    '_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "frames are little-endian");',
    "",
    `#define AGENT_PROTOCOL ${protocol.AGENT_PROTOCOL}`,
    `#define AGENT_VSOCK_PORT ${protocol.AGENT_VSOCK_PORT}`,
    `#define AGENT_SERIAL_PORTS ${protocol.AGENT_SERIAL_PORTS}`,
    `#define AGENT_SERIAL_PREFIX "${protocol.AGENT_SERIAL_PREFIX}"`,
    `#define MAGIC_BYTES ${protocol.MAGIC_BYTES}`,
    `#define NONCE_BYTES ${protocol.NONCE_BYTES}`,
    `#define HELLO_MAGIC ${quote(protocol.HELLO_MAGIC)}`,
    `#define ANSWER_MAGIC ${quote(protocol.ANSWER_MAGIC)}`,
    `#define HEADER_BYTES ${protocol.HEADER_BYTES}`,
    "",
    ...defineNumbers("LIMIT_", protocol.AGENT_LIMITS),
    "",
    ...defineNumbers("EXEC_FLAG_", protocol.EXEC_FLAGS),
    ...defineNumbers("EXITED_FLAG_", protocol.EXITED_FLAGS),
    ...defineNumbers("READY_FLAG_", protocol.READY_FLAGS),
    ...defineNumbers("POWER_", protocol.POWER_KINDS),
    ...defineNumbers("AGENT_ERROR_", protocol.AGENT_ERRORS),
    "",
    ...frames.map(([name, { type }]) => `#define FRAME_${upper(name)} ${type}`),
    "",
    ...frames.flatMap(([name, { fields }]) => defineStruct(name, fields)),
    "/* Every frame that the agent takes: its type, the bytes of its fields, and whether bytes follow them. */",
    "#define FRAMES_TO_GUEST(X) \\",
    shapes.join(" \\\n"),
    "",
    "#endif",
    "",
  ].join("\n");
}
