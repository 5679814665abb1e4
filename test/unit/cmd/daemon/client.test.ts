import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { mkdir, rm, symlink } from "node:fs/promises";
import { join } from "node:path";
import { connectClient, errorOf } from "../../../../src/cmd/daemon/client.ts";
import { Interrupts } from "../../../../src/cmd/terminal/interrupts.ts";
import { Output } from "../../../../src/cmd/terminal/output.ts";
import type { ErrorDocument } from "../../../../src/shared/errors.ts";
import { rootlessPaths } from "../../../../src/shared/places/paths.ts";
import { TextSink } from "../../../support/cli.ts";
import { beginStream, type FakeDaemon, startFakeDaemon } from "../../../support/fake-daemon.ts";

let daemon: FakeDaemon;
let stderr: TextSink;
let interrupts: Interrupts;
beforeEach(async () => {
  daemon = await startFakeDaemon();
  stderr = new TextSink();
  interrupts = new Interrupts();
});
afterEach(async () => await daemon[Symbol.asyncDispose]());

const client = async (options: Parameters<typeof connectClient>[3] = {}) =>
  await connectClient(daemon.env, new Output({ stdout: new TextSink(), stderr, env: {} }), interrupts, {
    start: false,
    ...options,
  });

describe("a plain method", () => {
  test("answers, or throws the daemon's own error", async () => {
    daemon.answers.set("vm.list", { result: [] });
    daemon.answers.set("vm.show", { error: { code: "VM_NOT_FOUND", message: "gone", op: "op-aaaaaaaaaaaa" } });
    const { call } = await client();
    expect(await call("vm.list", { all: true })).toEqual([]);
    expect(daemon.requests[0]).toMatchObject({ method: "vm.list", input: { all: true } });
    await expect(call("vm.show", { vm: "x" })).rejects.toMatchObject({ code: "VM_NOT_FOUND", op: "op-aaaaaaaaaaaa" });
  });

  test("that never answers is given up on", async () => {
    daemon.answers.set("vm.list", () => undefined);
    const { call } = await client({ timeoutMs: 100 });
    await expect(call("vm.list", { all: true })).rejects.toMatchObject({ code: "DAEMON_UNREACHABLE" });
  });

  test("is left on an interrupt", async () => {
    daemon.answers.set("vm.list", () => interrupts.receive("SIGINT"));
    const { call } = await client();
    await expect(call("vm.list", { all: true })).rejects.toMatchObject({ code: "CANCELLED" });
    await expect(call("vm.list", { all: true })).rejects.toMatchObject({ code: "CANCELLED" });
    expect(interrupts.exitStatus).toBe(130);
    daemon.answers.set("vm.list", { result: [] });
    const always = await client({ ignoreInterrupts: true });
    expect(await always.call("vm.list", { all: true })).toEqual([]);
  });

  test.each(["", "{", '{"result":'])("half an answer (%p) is no answer", async (text) => {
    daemon.answers.set("vm.list", ({ response }) => {
      response.writeHead(200, { "content-type": "application/json" }).end(text);
    });
    const { call } = await client();
    await expect(call("vm.list", { all: true })).rejects.toMatchObject({ code: "DAEMON_UNREACHABLE" });
  });
});

describe("a daemon killed before it answered", () => {
  const dieOnce = (method: "vm.list" | "vm.forward", result: unknown): void => {
    let asked = 0;
    daemon.answers.set(method, ({ response }) => {
      if (asked++ === 0) response.socket?.destroy();
      else response.writeHead(200, { "content-type": "application/json" }).end(JSON.stringify({ result }));
    });
  };

  test("is asked again where asking changes nothing", async () => {
    dieOnce("vm.list", []);
    expect(await (await client()).call("vm.list", { all: true })).toEqual([]);
    expect(daemon.requests).toHaveLength(2);
  });

  test("is not where it may have acted", async () => {
    dieOnce("vm.forward", {});
    const { call } = await client();
    await expect(call("vm.forward", { vm: "x", hostPort: 1, guestPort: 1 })).rejects.toMatchObject({
      code: "DAEMON_UNREACHABLE",
    });
    expect(daemon.requests).toHaveLength(1);
  });
});

describe("a streamed method", () => {
  test("shows its progress and returns its result, however the bytes are cut", async () => {
    daemon.answers.set("vm.stop", ({ response }) => {
      response.writeHead(200, { "content-type": "application/x-ndjson" });
      const bytes = Buffer.from(
        '{"event":"progress","stage":"stop","message":"stopping bö"}\n\n{"event":"result","result":[]}\n',
      );
      const cut = bytes.indexOf("ö") + 1;
      response.write(bytes.subarray(0, cut));
      setTimeout(() => response.end(bytes.subarray(cut)), 20);
    });
    const { call } = await client();
    expect(await call("vm.stop", { vms: ["x"] })).toEqual([]);
    expect(stderr.text).toBe("stopping bö\n");
  });

  test("is cancelled by an interrupt, and its undo is waited for", async () => {
    let send: ReturnType<typeof beginStream> | null = null;
    daemon.answers.set("vm.create", ({ response }) => {
      send = beginStream(response);
      send({ event: "operation", id: "op-0123456789ab" });
      interrupts.receive("SIGINT");
    });
    daemon.answers.set("operation.cancel", ({ response }) => {
      response.end(JSON.stringify({ result: {} }));
      send?.({ event: "progress", stage: "undo", message: "undoing" });
      setTimeout(() => send?.({ event: "error", error: { code: "CANCELLED", message: "all undone" } }), 50);
    });
    const { call } = await client();
    await expect(call("vm.create", { start: true })).rejects.toMatchObject({
      code: "CANCELLED",
      message: "all undone",
    });
    expect(daemon.requests.map(({ method, input }) => [method, input])).toContainEqual([
      "operation.cancel",
      { id: "op-0123456789ab" },
    ]);
    expect(stderr.text).toBe("undoing\n");
  });

  test("that breaks off is an error, not a result", async () => {
    daemon.answers.set("vm.stop", ({ response }) => {
      response.writeHead(200, { "content-type": "application/x-ndjson" });
      response.end('{"event":"progress","stage":"a","message":"b"}\n');
    });
    const { call } = await client();
    await expect(call("vm.stop", { vms: ["x"] })).rejects.toMatchObject({ code: "DAEMON_UNREACHABLE" });
  });
});

test("a followed log whose reader leaves ends the command, and its operation", async () => {
  const hungUp = Promise.withResolvers<void>();
  daemon.answers.set("vm.logs", ({ response }) => {
    const send = beginStream(response);
    const timer = setInterval(() => send({ event: "data", data: "line\n".repeat(1000) }), 10);
    response.on("close", () => {
      clearInterval(timer);
      hungUp.resolve();
    });
  });
  const child = daemon.spawn(["logs", "-f", "box"]);
  const reader = child.stdout.getReader();
  await reader.read();
  await reader.cancel();
  expect(await child.exited).toBe(0);
  expect(await new Response(child.stderr).text()).toBe("");
  await hungUp.promise;
});

describe("versions", () => {
  test("another one is mentioned once and works", async () => {
    daemon.headers["banger-version"] = "9.9.9";
    daemon.answers.set("vm.list", { result: [] });
    const { call } = await client();
    await call("vm.list", { all: true });
    await call("vm.list", { all: true });
    expect(stderr.text.match(/the daemon is banger 9\.9\.9/g)).toHaveLength(1);
  });

  test.each(["0", "", "x"])("a level below the least one (%p) is refused", async (level) => {
    daemon.headers["banger-api-level"] = level;
    daemon.answers.set("vm.list", { result: [] });
    const { call } = await client();
    await expect(call("vm.list", { all: true })).rejects.toMatchObject({ code: "VERSION_MISMATCH" });
  });

  test("an error code of a newer daemon keeps its message", () => {
    expect(errorOf({ code: "FROM_THE_FUTURE", message: "m" } as unknown as ErrorDocument)).toMatchObject({
      code: "FAILED",
      message: "m",
    });
  });
});

describe("nobody there", () => {
  test("no socket, or one that a killed daemon left", async () => {
    await daemon[Symbol.asyncDispose]();
    const { call } = await client();
    await expect(call("vm.list", { all: true })).rejects.toMatchObject({
      code: "DAEMON_UNREACHABLE",
      details: { listens: false },
    });
    daemon = await startFakeDaemon();
  });

  test("a runtime directory that is a link is refused before anything is sent", async () => {
    const elsewhere = join(daemon.dir, "elsewhere");
    await mkdir(elsewhere);
    await rm(join(daemon.dir, "banger"), { recursive: true });
    const env = { ...daemon.env, XDG_RUNTIME_DIR: daemon.dir };
    await symlink(elsewhere, rootlessPaths(env, daemon.dir, process.getuid?.() ?? -1).runtimeDir);
    await expect(
      connectClient(env, new Output({ stdout: new TextSink(), stderr, env: {} }), interrupts),
    ).rejects.toMatchObject({ code: "UNSAFE_DIRECTORY" });
  });
});
