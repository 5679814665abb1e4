import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { mkdtemp, rm } from "node:fs/promises";
import { createServer, type Server, type Socket } from "node:net";
import { join } from "node:path";
import { askMonitor } from "../../../../../src/daemon/engine/rootless/qmp.ts";

const GREETING = `${JSON.stringify({ QMP: { version: {}, capabilities: [] } })}\r\n`;
const OK = `${JSON.stringify({ return: {} })}\r\n`;

let dir: string;
let path: string;
let server: Server | undefined;
const sockets = new Set<Socket>();
beforeEach(async () => {
  dir = await mkdtemp("/tmp/banger-qmp-");
  path = join(dir, "qmp.sock");
});
afterEach(async () => {
  for (const socket of sockets) socket.destroy();
  sockets.clear();
  server?.close();
  await rm(dir, { recursive: true, force: true });
});

/** A monitor that greets, and answers each line it gets with what `answer` returns. */
async function monitor(greeting: string, answer: (execute: string) => string): Promise<string[]> {
  const asked: string[] = [];
  server = createServer((socket) => {
    sockets.add(socket);
    socket.on("error", () => socket.destroy());
    if (greeting !== "") socket.write(greeting);
    socket.on("data", (chunk) => {
      for (const line of chunk.toString("utf8").trim().split("\n")) {
        const { execute } = JSON.parse(line) as { execute: string };
        asked.push(execute);
        const reply = answer(execute);
        if (reply !== "") socket.write(reply);
      }
    });
  });
  await new Promise<void>((resolve) => server?.listen(path, resolve));
  return asked;
}

describe("askMonitor", () => {
  test("negotiates, asks once, and ignores events in between", async () => {
    const event = `${JSON.stringify({ event: "RTC_CHANGE", data: {} })}\r\n`;
    const asked = await monitor(GREETING + event, (execute) =>
      execute === "qmp_capabilities" ? OK + event : `${event}${JSON.stringify({ return: "text" })}\r\n`,
    );
    expect(await askMonitor(path, { execute: "query-status" }, 2000)).toBe("text");
    expect(asked).toEqual(["qmp_capabilities", "query-status"]);
  });

  test("QEMU's own words are in the error", async () => {
    await monitor(GREETING, (execute) =>
      execute === "qmp_capabilities"
        ? OK
        : `${JSON.stringify({ error: { class: "GenericError", desc: "no such thing" } })}\r\n`,
    );
    await expect(askMonitor(path, { execute: "x" }, 2000)).rejects.toMatchObject({
      code: "VMM_FAILED",
      message: expect.stringContaining("no such thing"),
    });
  });

  test.each([
    ["never greets", ""],
    ["greets and says no more", GREETING],
  ])("a monitor that %s fails at the deadline", async (_what, greeting) => {
    await monitor(greeting, () => "");
    await expect(askMonitor(path, { execute: "x" }, 150)).rejects.toMatchObject({ code: "VMM_FAILED" });
  });

  test.each([
    ["not JSON", "hello\n"],
    ["JSON that is no object", "null\n"],
    ["no end of line", "x".repeat(2 * 1024 * 1024)],
  ])("an answer that is %s fails, and doesn't throw elsewhere", async (_what, answer) => {
    await monitor(answer, () => "");
    await expect(askMonitor(path, { execute: "x" }, 2000)).rejects.toMatchObject({ code: "VMM_FAILED" });
  });

  test("no monitor, and one that hangs up", async () => {
    await expect(askMonitor(path, { execute: "x" }, 500)).rejects.toMatchObject({
      code: "VMM_FAILED",
      details: { errno: "ENOENT" },
    });
    server = createServer((socket) => socket.destroy());
    await new Promise<void>((resolve) => server?.listen(path, resolve));
    await expect(askMonitor(path, { execute: "x" }, 500)).rejects.toMatchObject({ code: "VMM_FAILED" });
  });
});
