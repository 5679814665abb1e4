import { afterEach, beforeEach, expect, test } from "bun:test";
import { mkdir, mkdtemp, rm, symlink } from "node:fs/promises";
import { createServer, type Server, type Socket } from "node:net";
import { join, resolve } from "node:path";
import { jailRootOf } from "../../../../../src/shared/jail.ts";

const MAIN = resolve(import.meta.dir, "../../../../../src/main.ts");

let base: string;
let root: string;
const servers: Server[] = [];

beforeEach(async () => {
  base = await mkdtemp("/tmp/bt-gc-");
  root = jailRootOf(join(base, "y".repeat(90)), "0123456789ab");
  await mkdir(join(root, "io"), { recursive: true });
  await symlink(join(root, "io"), join(base, "io"));
});
afterEach(async () => {
  for (const server of servers.splice(0)) server.close();
  await rm(base, { recursive: true, force: true });
});

async function listen(at: string | number, onConnection: (socket: Socket) => void): Promise<number> {
  const server = createServer(onConnection);
  servers.push(server);
  await new Promise<void>((done) => {
    if (typeof at === "string") server.listen(at, done);
    else server.listen(at, "127.0.0.1", done);
  });
  const address = server.address();
  return typeof address === "object" && address !== null ? address.port : 0;
}

/** What a real ssh client sends first over the way under test. */
async function sshThrough(port: number, received: Promise<string>, waitMs = 0): Promise<string> {
  const proxy = [process.execPath, MAIN, "internal", "guest-connect", root, "127.0.0.1", String(port), String(waitMs)];
  const child = Bun.spawn(
    [
      ...["ssh", "-F", "/dev/null", "-o", `ProxyCommand=${proxy.join(" ")}`, "-o", "ProxyUseFdpass=yes"],
      ...["-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "guest"],
    ],
    { stdin: "ignore", stdout: "ignore", stderr: "pipe" },
  );
  const ended = child.exited.then(
    async (status) => `ssh ended with ${status}: ${await new Response(child.stderr).text()}`,
  );
  const first = await Promise.race([received, ended]);
  child.kill("SIGKILL");
  return first;
}

/** A server that says hello as sshd does, and tells what it hears. */
function greet(hello: string): { readonly received: Promise<string>; readonly onData: (socket: Socket) => void } {
  const heard = Promise.withResolvers<string>();
  return {
    received: heard.promise,
    onData: (socket) => {
      socket.on("error", () => undefined);
      socket.write(hello);
      socket.once("data", (chunk) => heard.resolve(chunk.toString("latin1")));
    },
  };
}

test("over vsock: ssh gets the connection itself, with the bytes that came with Firecracker's answer", async () => {
  const guest = greet("OK 1073741824\nSSH-2.0-guest\r\n");
  let asked = "";
  await listen(join(base, "io/vsock.sock"), (socket) => {
    socket.once("data", (chunk) => {
      asked = chunk.toString();
      guest.onData(socket);
    });
  });
  expect(await sshThrough(9, guest.received)).toMatch(/^SSH-2\.0-OpenSSH/);
  expect(asked).toBe("CONNECT 9\n");
}, 20_000);

test("nobody on vsock: the address", async () => {
  await listen(join(base, "io/vsock.sock"), (socket) => socket.once("data", () => socket.end()));
  const guest = greet("SSH-2.0-guest\r\n");
  const port = await listen(0, guest.onData);
  expect(await sshThrough(port, guest.received)).toMatch(/^SSH-2\.0-OpenSSH/);
}, 20_000);

test("a guest that isn't there yet is waited for, over vsock, without a process of the guest's for each try", async () => {
  const guest = greet("OK 1\nSSH-2.0-guest\r\n");
  const port = await listen(0, () => undefined);
  servers.splice(0).forEach((server) => server.close());
  let tries = 0;
  const received = sshThrough(port, guest.received, 10_000);
  await Bun.sleep(100);
  await listen(join(base, "io/vsock.sock"), (socket) => {
    socket.on("error", () => undefined);
    tries++;
    socket.once("data", () => {
      if (tries < 4) socket.end();
      else guest.onData(socket);
    });
  });
  expect(await received).toMatch(/^SSH-2\.0-OpenSSH/);
  expect(tries).toBe(4);
}, 20_000);

test("no jail and nobody at the address: ssh ends, and the reason is said", async () => {
  await rm(join(root, "io"), { recursive: true });
  const port = await listen(0, () => undefined);
  servers.splice(0).forEach((server) => server.close());
  await Bun.sleep(10);
  const { promise: never } = Promise.withResolvers<string>();
  expect(await sshThrough(port, never)).toMatch(/banger: 127\.0\.0\.1:\d+: connect: errno 111/);
}, 20_000);
