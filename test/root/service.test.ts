/** Starts the helper as systemd does: a listening socket as descriptor 3, and the tests' own /etc and /var/lib. */

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { dlopen, FFIType, ptr } from "bun:ffi";
import {
  chmodSync,
  chownSync,
  closeSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { connect, createServer, type Server } from "node:net";
import { join } from "node:path";
import { encodeFrame, FRAME_LIMIT_BYTES, FrameDecoder } from "../../src/shared/contract/frames.ts";
import { HELPER_VERSION } from "../../src/shared/contract/helper-api.ts";
import { formatInstallConfig } from "../../src/shared/install-config.ts";
import { CONNECTION_LIMIT } from "../../src/helper/server.ts";
import { fingerprint, OWNER, outputAs, runAs, STRANGER } from "./support.ts";

const INSTALL_FILE = "/etc/banger/install.toml";
const INSTALL = formatInstallConfig({
  owner: { uid: OWNER, gid: OWNER, name: "dev" },
  vm_ids: { first: 300_000, count: 50 },
});
const RUNNER = join(import.meta.dir, "../support/run-helper.ts");
const EXIT_REFUSED = 13;

let directory = "";

beforeAll(() => {
  // In the mount namespace of run.ts, so nothing is visible outside.
  directory = mkdtempSync("/srv/banger-root-test-");
  chmodSync(directory, 0o755);
  for (const name of ["upper", "work"]) mkdirSync(join(directory, name));
  const mount = (...args: readonly string[]): void => {
    const { exitCode, stderr } = Bun.spawnSync(["mount", ...args]);
    if (exitCode !== 0) throw new Error(stderr.toString());
  };
  mount(
    "-t",
    "overlay",
    "overlay",
    "-o",
    `lowerdir=/etc,upperdir=${directory}/upper,workdir=${directory}/work`,
    "/etc",
  );
  mount("-t", "tmpfs", "-o", "mode=755", "tmpfs", "/var/lib");
  mkdirSync("/etc/banger", { mode: 0o755 });
});
afterAll(() => {
  for (const path of ["/etc", "/var/lib"]) Bun.spawnSync(["umount", "--lazy", path]);
  rmSync(directory, { recursive: true, force: true });
});

function plantInstallFile(): void {
  rmSync(INSTALL_FILE, { recursive: true, force: true });
  chmodSync("/etc/banger", 0o755);
  chownSync("/etc/banger", 0, 0);
  writeFileSync(INSTALL_FILE, INSTALL, { mode: 0o644 });
}

interface Helper extends AsyncDisposable {
  readonly pid: number;
  readonly path: string;
  readonly exited: Promise<number>;
  /** Log lines so far. */
  log(): readonly Readonly<Record<string, unknown>>[];
  /** Waits for a matching line. */
  logged(part: Readonly<Record<string, unknown>>): Promise<void>;
  stop(): void;
}

let sockets = 0;
/** Starts it with systemd's environment plus exactly this. */
async function start(env: Readonly<Record<string, string>> = {}, flags: readonly string[] = []): Promise<Helper> {
  const path = join(directory, `socket${sockets++}`);
  const server: Server = createServer();
  await new Promise<void>((resolve) => server.listen(path, resolve));
  // In an installation the socket's mode decides who may connect; here the helper's own check is tested.
  chmodSync(path, 0o777);
  const logPath = `${path}.log`;
  writeFileSync(logPath, "");
  const fd = (server as unknown as { readonly _handle: { readonly fd: number } })._handle.fd;
  // Only the shell knows its pid, which is the helper's after exec.
  const child = Bun.spawn(
    ["/bin/sh", "-c", 'LISTEN_PID=$$ exec "$@" 2>"$LOG"', "sh", process.execPath, ...flags, RUNNER],
    {
      env: { PATH: "/usr/sbin:/usr/bin", LISTEN_FDS: "1", LOG: logPath, ...env },
      cwd: "/",
      stdio: ["ignore", "ignore", "inherit", fd],
    },
  );
  // From here on only the helper accepts connections.
  closeSync(fd);
  const log = (): readonly Readonly<Record<string, unknown>>[] =>
    readFileSync(logPath, "utf8")
      .split("\n")
      .filter((line) => line.startsWith("{"))
      .map((line) => JSON.parse(line) as Record<string, unknown>);
  return {
    pid: child.pid,
    path,
    exited: child.exited,
    log,
    logged: async (part) => {
      const isThere = (): boolean =>
        log().some((line) => Object.entries(part).every(([key, value]) => line[key] === value));
      for (const end = Date.now() + 20_000; !isThere(); await Bun.sleep(20)) {
        if (Date.now() > end || child.exitCode !== null) {
          throw new Error(`not logged: ${JSON.stringify(part)}; logged: ${readFileSync(logPath, "utf8")}`);
        }
      }
    },
    stop: () => child.kill("SIGTERM"),
    [Symbol.asyncDispose]: async () => {
      child.kill("SIGKILL");
      await child.exited;
    },
  };
}

interface Answer {
  readonly bytes: Uint8Array;
  readonly ms: number;
}
/** Sends bytes, keeps the connection open by default, and reads until the helper closes. */
async function send(
  path: string,
  bytes: Uint8Array,
  options: { readonly end?: boolean; readonly drip?: Uint8Array } = {},
): Promise<Answer> {
  const began = performance.now();
  return await new Promise((resolve) => {
    const received: Uint8Array[] = [];
    const socket = connect({ path, allowHalfOpen: true });
    let at = 0;
    const drip =
      options.drip === undefined
        ? undefined
        : setInterval(() => socket.write(options.drip?.subarray(at, ++at) ?? new Uint8Array(0)), 250);
    socket.on("data", (chunk: Uint8Array) => received.push(chunk));
    // The helper may also close by a reset.
    socket.on("error", () => undefined);
    socket.on("end", () => socket.destroy());
    socket.on("close", () => {
      clearInterval(drip);
      resolve({ bytes: Buffer.concat(received), ms: performance.now() - began });
    });
    if (bytes.length > 0) socket.write(bytes);
    if (options.end === true) socket.end();
  });
}
const decode = ({ bytes }: Answer): unknown => (bytes.length === 0 ? null : new FrameDecoder().push(bytes)?.value);
const PING = encodeFrame({ v: HELPER_VERSION, method: "priv.ping", params: {}, op: "op-0123456789ab" });
const ping = async (path: string): Promise<unknown> => decode(await send(path, PING));
const alive = { result: { helper_version: HELPER_VERSION, owner_uid: OWNER } };

/** Pings as that user. Returns `closed` or the method's result. */
const PING_AS = `const net = require("node:net");
  const [path, frame] = process.argv.slice(1);
  const socket = net.connect(path);
  let got = 0;
  socket.on("error", () => undefined);
  socket.on("data", (chunk) => (got += chunk.length));
  socket.on("close", () => console.log(got === 0 ? "closed" : "answered"));
  socket.write(Buffer.from(frame, "hex"));`;
const pingAs = async (uid: number, path: string): Promise<string> =>
  await outputAs(uid, PING_AS, [path, Buffer.from(PING).toString("hex")]);

/** Opens connections and sends nothing. */
const HOLD_OPEN = `const net = require("node:net");
  for (let count = Number(process.argv[2]); count > 0; count--) net.connect(process.argv[1]).on("error", () => undefined);
  setInterval(() => undefined, 1000);`;

describe("the helper's start", () => {
  test.each([
    [{ BUN_OPTIONS: "--smol" }, "BUN_OPTIONS"],
    [{ BUN_INSPECT: "" }, "BUN_INSPECT"],
    [{ NODE_OPTIONS: "" }, "NODE_OPTIONS"],
    [{ LD_LIBRARY_PATH: "/tmp" }, "LD_LIBRARY_PATH"],
    [{ NODE_TLS_REJECT_UNAUTHORIZED: "0" }, "NODE_TLS_REJECT_UNAUTHORIZED"],
  ] as const)("is refused with %j", async (env, name) => {
    plantInstallFile();
    await using helper = await start(env as Record<string, string>);
    expect(await helper.exited).toBe(EXIT_REFUSED);
    expect(readFileSync(`${helper.path}.log`, "utf8")).toContain(name);
    expect(existsSync("/var/lib/banger")).toBe(false);
  });

  test("is refused with a flag for the runtime", async () => {
    plantInstallFile();
    await using helper = await start({}, ["--smol"]);
    expect(await helper.exited).toBe(EXIT_REFUSED);
    expect(existsSync("/var/lib/banger")).toBe(false);
  });

  test.each([
    ["belongs to the owner", () => chownSync(INSTALL_FILE, OWNER, OWNER)],
    ["may be written by a group", () => chmodSync(INSTALL_FILE, 0o664)],
    [
      "is a link",
      () => {
        renameSync(INSTALL_FILE, "/etc/banger/other.toml");
        symlinkSync("other.toml", INSTALL_FILE);
      },
    ],
    ["is in a directory that the owner owns", () => chownSync("/etc/banger", OWNER, OWNER)],
    ["is in a directory that others may write", () => chmodSync("/etc/banger", 0o777)],
    ["is missing", () => rmSync(INSTALL_FILE)],
    ["makes root the owner", () => writeFileSync(INSTALL_FILE, INSTALL.replace(`uid = ${OWNER}`, "uid = 0"))],
  ])("is refused when install.toml %s", async (_, spoil) => {
    plantInstallFile();
    spoil();
    await using helper = await start();
    expect(await helper.exited).toBeGreaterThan(0);
    expect(helper.log().some(({ outcome }) => outcome === "ready")).toBe(false);
    expect(existsSync("/var/lib/banger")).toBe(false);
  });

  test("notifies systemd, makes root's directories, and ends when told to", async () => {
    plantInstallFile();
    const { address, received } = listenForNotify(join(directory, "notify"));
    await using helper = await start({ NOTIFY_SOCKET: address });
    await helper.logged({ outcome: "ready" });
    expect(received()).toBe("READY=1");
    expect(
      fingerprint("/var/lib/banger")
        .split("\n")
        .map((line) => line.split(" ").slice(0, 3).join(" ")),
    ).toEqual([". 40711 0", "cow 40711 0", "jail 40711 0", "slots 40700 0"]);
    expect(await ping(helper.path)).toMatchObject(alive);
    helper.stop();
    expect(await helper.exited).toBe(0);
    expect(received()).toBe("STOPPING=1");
  });
});

describe("the helper's socket", () => {
  let helper: Helper;
  beforeAll(async () => {
    plantInstallFile();
    helper = await start();
    await helper.logged({ outcome: "ready" });
  });
  afterAll(async () => await helper[Symbol.asyncDispose]());

  test("answers root and the owner; closes on everyone else without an answer, and logs it", async () => {
    expect(await ping(helper.path)).toMatchObject(alive);
    expect(await pingAs(OWNER, helper.path)).toBe("answered");
    expect(await pingAs(STRANGER, helper.path)).toBe("closed");
    expect(await pingAs(300_000, helper.path)).toBe("closed");
    await helper.logged({ outcome: "NOT_OWNER", uid: STRANGER });
    await helper.logged({ outcome: "NOT_OWNER", uid: 300_000 });
    await helper.logged({ outcome: "ok", uid: OWNER, method: "priv.ping", op: "op-0123456789ab" });
  });

  test.each([
    ["a header that announces too much", new Uint8Array([0xff, 0xff, 0xff, 0xff])],
    ["a header one over the limit", new Uint8Array([0, 1, 0, 1])],
    ["an empty message", new Uint8Array(4)],
    ["text that isn't JSON", new Uint8Array([0, 0, 0, 1, 0x7b])],
    ["two requests at once", new Uint8Array([...PING, ...PING])],
    ["an unknown version", encodeFrame({ v: 9, method: "priv.ping", params: {}, op: null })],
    ["an unknown method", encodeFrame({ v: HELPER_VERSION, method: "priv.exec", params: {}, op: null })],
    ["an unknown key", encodeFrame({ v: HELPER_VERSION, method: "priv.ping", params: { uid: 0 }, op: null })],
  ])("answers %s with an error at once, and closes", async (_, bytes) => {
    const answer = await send(helper.path, bytes);
    expect(decode(answer)).toMatchObject({ error: { code: "INVALID_REQUEST" } });
    expect(await ping(helper.path)).toMatchObject(alive);
  });

  test("reads a request of the largest size, but not one byte more", async () => {
    const shell = encodeFrame({ v: HELPER_VERSION, method: "priv.ping", params: { x: "" }, op: null }).length - 4;
    const largest = encodeFrame({
      v: HELPER_VERSION,
      method: "priv.ping",
      params: { x: "y".repeat(FRAME_LIMIT_BYTES - shell) },
      op: null,
    });
    expect(largest.length).toBe(FRAME_LIMIT_BYTES + 4);
    expect(decode(await send(helper.path, largest))).toMatchObject({
      error: { message: expect.stringContaining("no such key") },
    });
  });

  test("closes half-sent, empty and dripping connections after a deadline, and says why", async () => {
    const before = helper.log().length;
    const [half, empty, dripping, ended] = await Promise.all([
      send(helper.path, PING.subarray(0, PING.length - 1)),
      send(helper.path, new Uint8Array(0)),
      send(helper.path, new Uint8Array(0), { drip: PING }),
      send(helper.path, PING.subarray(0, 9), { end: true }),
    ]);
    for (const { bytes } of [half, empty, dripping, ended]) expect(bytes).toHaveLength(0);
    const lines = helper.log().slice(before);
    expect(lines.filter(({ reason }) => reason === "no complete request arrived")).toHaveLength(4);
    expect(await ping(helper.path)).toMatchObject(alive);
  }, 20_000);

  test("survives a thousand silent connections, and keeps serving others", async () => {
    // More than the limit try to stay open; the excess is closed at once.
    const sockets = Array.from({ length: 1000 }, () => connect({ path: helper.path }));
    let closed = 0;
    for (const socket of sockets) {
      socket.on("error", () => undefined);
      socket.on("close", () => closed++);
    }
    for (const end = Date.now() + 15_000; closed < 1000 - CONNECTION_LIMIT && Date.now() < end;) await Bun.sleep(20);
    expect(closed).toBeGreaterThanOrEqual(1000 - CONNECTION_LIMIT);
    for (const socket of sockets) socket.destroy();
    for (const end = Date.now() + 15_000; (await ping(helper.path)) === null && Date.now() < end;) await Bun.sleep(50);
    expect(await ping(helper.path)).toMatchObject(alive);
    const resident = Number(/^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${helper.pid}/status`, "utf8"))?.[1]);
    expect(resident).toBeLessThan(200_000);
  }, 40_000);

  test("lets root in while the owner holds every connection it can get, silent or waiting", async () => {
    await using owner = runAs(OWNER, HOLD_OPEN, [helper.path, String(4 * CONNECTION_LIMIT)]);
    await helper.logged({ outcome: "REFUSED", uid: OWNER });
    // The helper closes the owner's connections after 5 s; these pings are answered before that.
    for (let round = 0; round < CONNECTION_LIMIT; round++) expect(await ping(helper.path)).toMatchObject(alive);
    expect(helper.log().some(({ reason, uid }) => reason === "no complete request arrived" && uid === OWNER)).toBe(
      false,
    );
    await owner[Symbol.asyncDispose]();
    const repeated = helper.log().filter(({ outcome, uid }) => outcome === "REFUSED" && uid === OWNER);
    expect(repeated.length).toBeLessThan(CONNECTION_LIMIT);
  }, 30_000);

  test("survives callers that hang up at any byte", async () => {
    for (let length = 0; length <= PING.length; length++) {
      const socket = connect({ path: helper.path });
      socket.on("error", () => undefined);
      socket.write(PING.subarray(0, length), () => socket.destroy());
      await new Promise((resolve) => socket.once("close", resolve));
    }
    for (const end = Date.now() + 15_000; (await ping(helper.path)) === null && Date.now() < end;) await Bun.sleep(50);
    expect(await ping(helper.path)).toMatchObject(alive);
  }, 30_000);
});

/** A datagram socket like systemd's, and the messages received since the last look. */
function listenForNotify(path: string): { readonly address: string; received(): string } {
  const { symbols } = dlopen("libc.so.6", {
    socket: { args: [FFIType.i32, FFIType.i32, FFIType.i32], returns: FFIType.i32 },
    bind: { args: [FFIType.i32, FFIType.ptr, FFIType.u32], returns: FFIType.i32 },
    recv: { args: [FFIType.i32, FFIType.ptr, FFIType.u64, FFIType.i32], returns: FFIType.i64_fast },
  });
  const fd = symbols.socket(1, 2, 0);
  const address = new Uint8Array([1, 0, ...new TextEncoder().encode(path), 0]);
  if (symbols.bind(fd, ptr(address), address.length) !== 0) throw new Error("bind");
  const MSG_DONTWAIT = 0x40;
  return {
    address: path,
    received: () => {
      const buffer = new Uint8Array(4096);
      const length = Number(symbols.recv(fd, ptr(buffer), 4096n, MSG_DONTWAIT));
      return new TextDecoder().decode(buffer.subarray(0, Math.max(0, length)));
    },
  };
}
