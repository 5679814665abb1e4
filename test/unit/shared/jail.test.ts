import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { mkdir, mkdtemp, rm, symlink, unlink } from "node:fs/promises";
import { linkSync, readFileSync, readdirSync, writeFileSync } from "node:fs";
import { createServer, type Server, type Socket } from "node:net";
import { join } from "node:path";
import { connectVsock, jailRootOf, openJailFile, openJailSocket } from "../../../src/shared/jail.ts";
import type { Wire } from "../../../src/shared/streams/wire.ts";
import { JAIL } from "../../../src/shared/contract/helper-api.ts";

let base: string;
let root: string;
let server: Server | null = null;

beforeEach(async () => {
  base = await mkdtemp("/tmp/bt-jail-");
  // As deep as a real one: the path of a socket in it is longer than a socket's address holds.
  root = jailRootOf(join(base, "x".repeat(80)), "0123456789ab");
  await mkdir(join(root, "io"), { recursive: true });
});
afterEach(async () => {
  server?.close();
  server = null;
  await rm(base, { recursive: true, force: true });
});

/** A server on a socket in the jail, by a short name for the long path. */
async function listen(onConnection: (socket: Socket) => void): Promise<void> {
  await symlink(join(root, "io"), join(base, "io"));
  server = createServer(onConnection);
  await new Promise<void>((resolve) => server?.listen(join(base, "io/vsock.sock"), resolve));
}

const firstBytes = (wire: Wire): Promise<Buffer> =>
  new Promise((onData, reject) => {
    wire.read({ onData, onEnd: reject });
    wire.resume();
  });
const openDescriptors = (): number => readdirSync("/proc/self/fd").length;

describe("openJailFile", () => {
  test("reads a regular file", () => {
    writeFileSync(join(root, "io/serial.log"), "hello");
    using file = openJailFile(root, JAIL.serialLog);
    expect(readFileSync(file.path, "utf8")).toBe("hello");
  });
  test("follows no link at the name", async () => {
    writeFileSync(join(base, "secret"), "secret");
    await symlink(join(base, "secret"), join(root, "io/serial.log"));
    expect(() => openJailFile(root, JAIL.serialLog)).toThrow(/ELOOP/);
  });
  test("follows no link at io", async () => {
    await rm(join(root, "io"), { recursive: true });
    await mkdir(join(base, "elsewhere"));
    writeFileSync(join(base, "elsewhere/serial.log"), "secret");
    await symlink(join(base, "elsewhere"), join(root, "io"));
    expect(() => openJailFile(root, JAIL.serialLog)).toThrow(/ENOTDIR|ELOOP/);
  });
  test("refuses a FIFO at once", () => {
    expect(Bun.spawnSync(["mkfifo", join(root, "io/serial.log")]).exitCode).toBe(0);
    const before = openDescriptors();
    expect(() => openJailFile(root, JAIL.serialLog)).toThrow("not a regular file");
    expect(openDescriptors()).toBe(before);
  });
  test("refuses a directory", async () => {
    await mkdir(join(root, "io/serial.log"));
    expect(() => openJailFile(root, JAIL.serialLog)).toThrow("not a regular file");
  });
  test("refuses a file with a second name, to read or to cut", () => {
    writeFileSync(join(base, "kernel"), "kernel");
    linkSync(join(base, "kernel"), join(root, "io/serial.log"));
    const before = openDescriptors();
    for (const access of ["read", "write"] as const)
      expect(() => openJailFile(root, JAIL.serialLog, access)).toThrow("has 2 names");
    expect(openDescriptors()).toBe(before);
  });
  test("refuses a name that isn't directly below io", () => {
    expect(() => openJailFile(root, "/kernel")).toThrow("not directly below");
    expect(() => openJailFile(root, "/io/../kernel")).toThrow("not directly below");
    expect(() => openJailFile(root, "/io/..")).toThrow("not directly below");
  });
});

describe("openJailSocket", () => {
  test("refuses a regular file and a link to a socket", async () => {
    writeFileSync(join(root, "io/api.sock"), "");
    expect(() => openJailSocket(root, JAIL.apiSocket)).toThrow("not a socket");
    await listen(() => undefined);
    await unlink(join(root, "io/api.sock"));
    await symlink(join(root, "io/vsock.sock"), join(root, "io/api.sock"));
    expect(() => openJailSocket(root, JAIL.apiSocket)).toThrow("not a socket");
  });
});

describe("connectVsock", () => {
  test("asks for the port, and gives what came with the answer", async () => {
    await listen((socket) => {
      socket.once("data", (chunk) => {
        expect(chunk.toString()).toBe("CONNECT 22\n");
        socket.write("OK 1073741824\nSSH-2.0-test\r\n");
      });
    });
    const before = openDescriptors();
    const wire = await connectVsock(root, 22, { timeoutMs: 2000 });
    expect((await firstBytes(wire)).toString()).toBe("SSH-2.0-test\r\n");
    wire.close();
    await Bun.sleep(20);
    // The server's end and the client's; the socket's own descriptor is closed.
    expect(openDescriptors()).toBeLessThanOrEqual(before + 1);
  });
  test("an answer in pieces", async () => {
    await listen((socket) => {
      socket.once("data", () => {
        socket.write("O");
        setTimeout(() => socket.write("K 5\nx"), 20);
      });
    });
    const wire = await connectVsock(root, 1, { timeoutMs: 2000 });
    expect((await firstBytes(wire)).toString()).toBe("x");
    wire.close();
  });
  test("nobody listens: closed without an answer", async () => {
    await listen((socket) => socket.once("data", () => socket.end()));
    await expect(connectVsock(root, 22, { timeoutMs: 2000 })).rejects.toMatchObject({ code: "GUEST_NOT_READY" });
  });
  test("no answer", async () => {
    await listen(() => undefined);
    await expect(connectVsock(root, 22, { timeoutMs: 50 })).rejects.toThrow("no answer within 50 ms");
  });
  test("an answer that isn't Firecracker's", async () => {
    await listen((socket) => socket.write("z".repeat(4096)));
    await expect(connectVsock(root, 22, { timeoutMs: 2000 })).rejects.toThrow("the answer is not Firecracker's");
  });
  test("no socket at all", async () => {
    await expect(connectVsock(root, 22, { timeoutMs: 50 })).rejects.toMatchObject({ code: "GUEST_NOT_READY" });
  });
});
