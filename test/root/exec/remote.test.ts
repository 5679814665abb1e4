/** exec in a guest of another machine (BANGER_HOST): through banger there, with an ssh that runs everything on this one. */

import { afterAll, beforeAll, expect, test } from "bun:test";
import { chmod, mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { randomBytes } from "node:crypto";
import { eventually } from "../../support/banger.ts";
import { isRunning, makeWorld, readLines, type World } from "./support.ts";

let world: World;
let env: Record<string, string>;
beforeAll(async () => {
  world = await makeWorld();
  env = await makeHost();
}, 60_000);
afterAll(async () => await world[Symbol.asyncDispose]());

/** The environment of a user whose ssh says where the daemon is, forwards to it, and runs a line with `banger` in its PATH. */
async function makeHost(): Promise<Record<string, string>> {
  const { daemon } = world;
  const [bin, near] = [join(daemon.dir, "bin"), join(daemon.dir, "near")];
  await mkdir(bin);
  await mkdir(near, { mode: 0o700 });
  const scripts = {
    ssh: [
      "for word do case $word in *:/*) socket=${word%%:*} target=${word#*:};; esac; line=$word; done",
      'case " $* " in *" -O forward "*) exec ln -sf "$target" "$socket";; esac',
      'case $line in "banger internal socket"*) echo "$FAR_SOCKET"; exit;; esac',
      "echo 'a login shell that says something'",
      "unset BANGER_HOST XDG_RUNTIME_DIR",
      'export XDG_STATE_HOME="$FAR_STATE" HOME="$FAR_HOME"',
      'echo "$line" >>"$FAR_HOME/lines"',
      'exec sh -c "$line"',
    ],
    banger: [`exec ${daemon.cli.map((word) => `'${word}'`).join(" ")} "$@"`],
  };
  for (const [name, lines] of Object.entries(scripts)) {
    await writeFile(join(bin, name), `#!/bin/sh\n${lines.join("\n")}\n`);
    await chmod(join(bin, name), 0o755);
  }
  return {
    PATH: `${bin}:${process.env["PATH"]}`,
    ...{ HOME: near, XDG_STATE_HOME: join(near, "state"), XDG_RUNTIME_DIR: near, BANGER_HOST: "ssh://far" },
    FAR_SOCKET: join(daemon.dir, "banger/bangerd.sock"),
    ...{ FAR_HOME: daemon.dir, FAR_STATE: daemon.env["XDG_STATE_HOME"] ?? "" },
  };
}

test("input, output and status go through banger there, byte for byte", async () => {
  const bytes = randomBytes(2_000_000);
  const child = Bun.spawn([...world.daemon.cli, "exec", "box", "--", "sh", "-c", "cat; exit 6"], {
    env,
    cwd: world.daemon.dir,
    stdio: [bytes, "pipe", "pipe"],
  });
  const [output, stderr] = await Promise.all([new Response(child.stdout).bytes(), new Response(child.stderr).text()]);
  expect({ status: await child.exited, stderr, isSame: Buffer.from(output).equals(bytes) }).toEqual({
    ...{ status: 6, stderr: "", isSame: true },
  });
  expect(await Bun.file(join(world.daemon.dir, "lines")).text()).toBe("banger internal guest-stream 0123456789ab\n");
}, 30_000);

test("killed with -9 here, everything there and in the guest ends", async () => {
  const child = Bun.spawn([...world.daemon.cli, "exec", "box", "--", "sh", "-c", "echo $$; sleep 300"], {
    env,
    cwd: world.daemon.dir,
    stdio: ["pipe", "pipe", "inherit"],
  });
  const line = readLines(child.stdout);
  const pid = await line();
  expect(pid).toMatch(/^\d+$/);
  child.kill("SIGKILL");
  expect(await line()).toBeNull();
  const streams = (): string[] =>
    Bun.spawnSync(["pgrep", "-f", `${world.daemon.cli.at(-1)} internal guest-stream`])
      .stdout.toString()
      .split("\n");
  await eventually(
    "both are gone",
    20_000,
    () => !isRunning(pid ?? "") && !streams().some((of) => of !== "" && isRunning(of)),
  );
}, 30_000);
