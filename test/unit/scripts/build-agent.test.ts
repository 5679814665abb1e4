import { expect, test } from "bun:test";
import { agentHeader, fieldBytes } from "../../../scripts/agent-header.ts";
import { agentArgv, agentCompiler, agentPath } from "../../../scripts/build-agent.ts";
import { AGENT_LIMITS, FRAMES, type FrameShape, HELLO_MAGIC, MAGIC_BYTES } from "../../../src/shared/agent/protocol.ts";

const header = agentHeader();

test("the header has every frame's number, and its size and direction where the agent takes it", () => {
  for (const [name, shape] of Object.entries<FrameShape>(FRAMES)) {
    const macro = `FRAME_${name.replaceAll(/[A-Z]/g, (letter) => `_${letter}`).toUpperCase()}`;
    expect(header).toContain(`#define ${macro} ${shape.type}\n`);
    const row = `X(${macro}, ${fieldBytes(shape.fields)}, ${shape.bytes ? 1 : 0})`;
    expect(header.includes(row)).toBe(shape.to === "guest");
  }
  expect(new Set(Object.values(FRAMES).map(({ type }) => type)).size).toBe(Object.keys(FRAMES).length);
});

test("the header has the limits, and magics that a C compiler reads back", () => {
  expect(header).toContain(`#define LIMIT_PAYLOAD_BYTES ${AGENT_LIMITS.payloadBytes}\n`);
  const [, quoted = ""] = /#define HELLO_MAGIC "(.*)"/.exec(header) ?? [];
  const bytes = quoted.split("\\").slice(1);
  expect(bytes.map((octal) => String.fromCharCode(Number.parseInt(octal, 8))).join("")).toBe(HELLO_MAGIC);
  expect(bytes).toHaveLength(MAGIC_BYTES);
});

test("a field that is a macro in C has another name, and structs have no holes", () => {
  expect(header).toContain("int32_t error_number;");
  expect(header).not.toMatch(/\berrno;/);
  expect(header.match(/^struct /gm)?.length).toBe(header.match(/^} __attribute__\(\(packed\)\);/gm)?.length);
});

test("the machine's own compiler is used where it can be, and a missing one is named with its package", () => {
  expect(agentCompiler("x64", "x64")).toEqual({ program: "gcc", packages: "gcc libc6-dev" });
  expect(agentCompiler("arm64", "arm64")).toEqual({ program: "gcc", packages: "gcc libc6-dev" });
  expect(agentCompiler("arm64", "x64")).toEqual({
    program: "aarch64-linux-gnu-gcc",
    packages: "gcc-aarch64-linux-gnu libc6-dev-arm64-cross",
  });
});

test("the product is static and can't be told to run on this machine; the build for tests has sanitizers", () => {
  const argv = (forTests: boolean): readonly string[] =>
    agentArgv({ sources: ["a.c"], include: ["b"], outfile: "c", forTests });
  expect(argv(false)).toContain("-static");
  expect(argv(false).join(" ")).not.toContain("FOR_TESTS");
  expect(argv(true)).toContain("-fsanitize=address,undefined");
  expect(argv(true)).not.toContain("-static");
  expect(agentPath({ arch: "arm64", forTests: false })).toEndWith("dist/guest/banger-agent-arm64.elf");
});
