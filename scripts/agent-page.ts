/** docs/reference/agent-protocol.md, from the protocol's tables. Pure. */

import * as protocol from "../src/shared/agent/protocol.ts";

type Table = (head: readonly string[], rows: readonly (readonly string[])[]) => string;

const shown = (bytes: string): string => `\`${JSON.stringify(bytes).slice(1, -1)}\``;

function frameTable(table: Table, to: "guest" | "host"): string {
  const rows = Object.entries<protocol.FrameShape>(protocol.FRAMES)
    .filter(([, frame]) => frame.to === to)
    .map(([name, { type, fields, bytes, why }]) => {
      const parts = Object.entries(fields).map(([field, kind]) => `\`${field}\` ${kind}`);
      return [String(type), `\`${name}\``, [...parts, ...(bytes ? ["bytes"] : [])].join(", "), why];
    });
  return table(["type", "frame", "payload", ""], rows);
}

const numbers = (table: Table, head: string, values: Readonly<Record<string, number>>): string =>
  table(
    [head, ""],
    Object.entries(values).map(([name, value]) => [`\`${name}\``, value.toLocaleString("en")]),
  );

/** `table` makes a Markdown table. */
export function renderAgentProtocol(table: Table): string {
  return [
    "# The guest agent's protocol",
    `What the host and the agent in a guest say to each other; version ${protocol.AGENT_PROTOCOL}. A channel is a stream of bytes.
Under Firecracker it is a connection to vsock port ${protocol.AGENT_VSOCK_PORT}. Under QEMU it is one of
${protocol.AGENT_SERIAL_PORTS} virtio-serial ports, which the guest knows as \`${protocol.AGENT_SERIAL_PREFIX}0\` and so on; each is a unix
socket in the VM's runtime directory. Numbers are little-endian.`,
    "## Handshake",
    `A port has no beginning and no end that both sides see alike, so each use of a channel begins with a handshake. Each side
throws away everything before it.`,
    table(
      ["from", "bytes"],
      [
        ["host", `${shown(protocol.HELLO_MAGIC)}, ${protocol.NONCE_BYTES} random bytes, its version as u32`],
        ["agent", `${shown(protocol.ANSWER_MAGIC)}, the same ${protocol.NONCE_BYTES} bytes, its version as u32`],
      ],
    ),
    `A host that gets no answer sends ${(protocol.AGENT_LIMITS.payloadBytes + protocol.HEADER_BYTES).toLocaleString("en")} zero bytes and
another hello: they fill whatever frame an earlier session stood in, and the type 0 that follows ends it. The host sends its
request after the answer, so no request is served twice.`,
    "## Frames",
    `A frame is the payload's length (u32), its type (u8) and the payload: fixed fields, then bytes where the table says so. A
session is one request. Its last word is \`exited\`, \`error\`, \`done\` or \`ready\`.`,
    "From the host:",
    frameTable(table, "guest"),
    "From the agent:",
    frameTable(table, "host"),
    "A frame of another type or length, or out of its place, ends the session with the error `protocol`.",
    "## Flags",
    numbers(table, "`exec.flags`", protocol.EXEC_FLAGS),
    numbers(table, "`exited.flags`", protocol.EXITED_FLAGS),
    numbers(table, "`ready.flags`", protocol.READY_FLAGS),
    "## Codes",
    numbers(table, "`error.code`", protocol.AGENT_ERRORS),
    numbers(table, "`power.kind`", protocol.POWER_KINDS),
    "## Limits",
    numbers(table, "limit", protocol.AGENT_LIMITS),
  ].join("\n\n");
}
