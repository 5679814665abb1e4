/** The descriptors that banger got from its caller: never changed, never handed on, and their errors seen. */

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { eventually } from "../../support/banger.ts";
import { isRunning, makeWorld, readLines, shellFunction, type World } from "./support.ts";

let world: World;
beforeAll(async () => {
  world = await makeWorld();
}, 60_000);
afterAll(async () => await world[Symbol.asyncDispose]());

/** fcntl(2): O_NONBLOCK, in the octal flags of proc_pid_fdinfo(5). */
const NONBLOCK = 0o4000;
const isNonBlocking = (pid: number, fd: number): boolean => {
  const flags = /^flags:\s*(\d+)$/m.exec(readFileSync(`/proc/${pid}/fdinfo/${fd}`, "utf8"))?.[1];
  return (Number.parseInt(flags ?? "", 8) & NONBLOCK) !== 0;
};

describe("descriptors of others", () => {
  // Reads and writes on each of them, then tells the process id of what has them.
  const LINE = "banger exec box -- sh -c 'read -r x; echo in $x; echo err >&2; read -r x' & echo pid $!; wait";

  test.each([
    ["sockets", LINE, ""],
    ["pipes", `{ ${LINE}; } < <(exec cat) > >(exec cat) 2> >(exec cat >&2)`, ""],
  ])("%s stay blocking while a command runs", async (_, line) => {
    const child = Bun.spawn(
      ["bash", "-c", `${shellFunction(world.daemon)}; ${line.replace("box -- sh", "box -- sh")} <&0`],
      {
        cwd: world.daemon.dir,
        env: world.daemon.env,
        stdio: ["pipe", "pipe", "pipe"],
      },
    );
    const line1 = readLines(child.stdout);
    const pid = Number(/^pid (\d+)$/.exec((await line1()) ?? "")?.[1]);
    child.stdin.write("first\n");
    await child.stdin.flush();
    expect(await line1()).toBe("in first");
    expect(await readLines(child.stderr)()).toBe("err");
    expect([0, 1, 2].map((fd) => isNonBlocking(pid, fd))).toEqual([false, false, false]);
    child.stdin.end();
    await child.exited;
  });
});
