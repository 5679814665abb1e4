import { afterEach, beforeEach, expect, test } from "bun:test";
import { mkdir, mkdtemp, rm, symlink } from "node:fs/promises";
import { readdirSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { openFirecrackerApi } from "../../../../../src/daemon/engine/system/firecracker-api.ts";
import { jailRootOf } from "../../../../../src/shared/jail.ts";
import { startFakeFirecracker } from "../../../../support/fake-firecracker.ts";

let base: string;
let root: string;

beforeEach(async () => {
  base = await mkdtemp("/tmp/bt-fc-");
  root = jailRootOf(join(base, "z".repeat(90)), "0123456789ab");
});
afterEach(async () => await rm(base, { recursive: true, force: true }));

test("puts and gets through the jail's socket on one connection, and leaves no descriptor open", async () => {
  await using firecracker = await startFakeFirecracker(root, base);
  const before = readdirSync("/proc/self/fd").length;
  for (let session = 1; session <= 20; session++) {
    using api = openFirecrackerApi(root);
    expect(await api.get("/version")).toEqual({ firecracker_version: "1.16.1" });
    await api.put("/entropy", {});
    expect(firecracker.connections()).toBe(session);
  }
  await Bun.sleep(20);
  expect(readdirSync("/proc/self/fd").length).toBeLessThan(before + 10);
  expect(firecracker.requests[1]).toEqual({ method: "PUT", path: "/entropy", body: {} });
});

test("a session never meets the VM of an earlier one, though its socket has that one's short name", async () => {
  const roots = ["first", "second"].map((name) => jailRootOf(join(base, name), "0123456789ab"));
  const [first = "", second = ""] = roots;
  await using one = await startFakeFirecracker(first, base);
  await using other = await startFakeFirecracker(second, base);
  for (const own of [first, second, first]) {
    using api = openFirecrackerApi(own);
    await api.put("/entropy", {});
  }
  expect([one.requests.length, other.requests.length]).toEqual([2, 1]);
});

test("a refusal carries Firecracker's reason", async () => {
  await using _firecracker = await startFakeFirecracker(root, base, {
    answer: () => ({ status: 400, text: '{"fault_message":"no such drive"}' }),
  });
  using api = openFirecrackerApi(root);
  await expect(api.put("/drives/x", {})).rejects.toMatchObject({
    code: "VMM_FAILED",
    message: "Firecracker's API, PUT /drives/x: 400: no such drive",
  });
});

test("no socket, a silent one, one that hangs up, one that floods", async () => {
  expect(() => openFirecrackerApi(root)).toThrow(expect.objectContaining({ code: "VMM_FAILED" }));
  await mkdir(join(root, "io"), { recursive: true });
  await symlink(join(root, "io"), join(base, "io"));
  const serve = async (act: (socket: import("node:net").Socket) => void): Promise<string> => {
    await rm(join(root, "io/api.sock"), { force: true });
    const server = createServer((socket) => {
      socket.on("error", () => undefined);
      act(socket);
    });
    await new Promise<void>((resolve) => server.listen(join(base, "io/api.sock"), resolve));
    using api = openFirecrackerApi(root, 200);
    const failure = await api.get("/version").then(
      () => "answered",
      (thrown: unknown) => (thrown as Error).message,
    );
    server.close();
    return failure;
  };
  expect(await serve(() => undefined)).toContain("no answer within 0.2 s");
  expect(await serve((socket) => socket.destroy())).toMatch(/GET \/version: /);
  expect(
    await serve((socket) => {
      socket.write("HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n");
      socket.write("x".repeat(200_000));
    }),
  ).toMatch(/over 65536 bytes|no answer/);
});
