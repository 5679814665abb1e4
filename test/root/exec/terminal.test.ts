/** exec in a terminal: whose keys they are, and how the terminal is afterwards. */

import { afterAll, beforeAll, describe, test } from "bun:test";
import { eventually } from "../../support/banger.ts";
import { TestTerminal } from "../../support/terminal.ts";
import { isRunning, makeWorld, shellFunction, type World } from "./support.ts";

let world: World;
beforeAll(async () => {
  world = await makeWorld();
}, 60_000);
afterAll(async () => await world[Symbol.asyncDispose]());

/** An interactive shell in which `banger` is the CLI. */
async function openShell(): Promise<TestTerminal> {
  await Bun.write(`${world.daemon.dir}/rc`, `${shellFunction(world.daemon)}\nPS1='$ '\n`);
  const terminal = new TestTerminal(["bash", "--rcfile", `${world.daemon.dir}/rc`, "-i"], world.daemon.env);
  await terminal.appears(/\$ $/);
  return terminal;
}

const state = (pid: number | string): string =>
  /^State:\s+(\w)/m.exec(Bun.spawnSync(["cat", `/proc/${pid}/status`]).stdout.toString())?.[1] ?? "";

describe("-t", () => {
  test("the command has a terminal of this one's size and kind, and hears when it changes", async () => {
    await using shell = await openShell();
    const script =
      "trap 'stty size' WINCH; trap exit INT; stty size; echo $TERM; echo ready; while :; do sleep 0.05; done";
    shell.type(`banger exec -t box -- bash -c '${script.replaceAll("'", "'\\''")}'\n`);
    await shell.appears(/31 101\r\nvt100\r\nready\r\n/);
    shell.resize(42, 133);
    await shell.appears(/42 133\r\n/);
    shell.type("\u0003");
    await shell.appears(/\$ $/);
  });

  test("every key is the command's: ctrl-c, ctrl-z, ctrl-\\, ctrl-s, ctrl-d, and ~.", async () => {
    await using shell = await openShell();
    shell.type("banger exec -t box -- sh -c 'stty raw -echo; echo ready; head -c 8 | od -An -c; stty sane; exit 5'\n");
    await shell.appears(/ready\r?\n/);
    shell.type("\r~.\u0003\u001a\u001c\u0013\u0004");
    await shell.appears(/\\r +~ +\. +003 +032 +034 +023 +004/);
    await shell.appears(/\$ $/);
    shell.type("echo status $?\n");
    await shell.appears(/status 5\r\n/);
  });

  test("ctrl-c and ctrl-\\ in the command's own terminal end it as they would here", async () => {
    await using shell = await openShell();
    for (const [key, status] of [
      ["\u0003", 130],
      ["\u001c", 131],
    ] as const) {
      shell.type("banger exec -t box -- sh -c 'echo ready; exec sleep 300'\n");
      await shell.appears(/ready\r\n/);
      shell.type(key);
      await shell.appears(/\$ $/);
      shell.type("echo status $?\n");
      await shell.appears(new RegExp(`status ${status}\\r\\n`));
    }
  });

  test("output comes as it is: no line end is added to", async () => {
    await using shell = await openShell();
    shell.type("banger exec -t box -- sh -c 'stty -opost; printf \"<a\\\\nb>\"'\n");
    await shell.appears(/<a\nb>/);
  });

  test.each([
    ["the command's end", "true", null],
    ["a command that isn't there", "no-such", null],
    ["SIGTERM", "sh -c 'echo ready; exec sleep 300'", "SIGTERM"],
    ["SIGHUP", "sh -c 'echo ready; exec sleep 300'", "SIGHUP"],
    ["SIGQUIT", "sh -c 'echo ready; exec sleep 300'", "SIGQUIT"],
    ["an agent that is gone", "sh -c 'echo ready; kill -9 $PPID'", null],
    ["a time limit", "--timeout", null],
  ] as const)("after %s, the terminal is as it was", async (_, command, kill) => {
    await using shell = await openShell();
    const words = command === "--timeout" ? "--timeout 300ms -t box -- sleep 300" : `-t box -- ${command}`;
    shell.type(`before=$(stty -g); banger exec ${words}; test "$before" = "$(stty -g)" && echo same'': $?\n`);
    if (kill !== null) {
      await shell.appears(/ready\r\n/);
      process.kill(findCli(), kill);
    }
    await shell.appears(/same: 0\r\n/);
  });
});

/** The processes of the CLI that these tests started. */
function findClis(): readonly number[] {
  const found = Bun.spawnSync(["pgrep", "-f", `${world.daemon.cli.at(-1)} exec`])
    .stdout.toString()
    .trim()
    .split("\n");
  return found
    .filter((pid) => Bun.spawnSync(["grep", "-qas", world.daemon.dir, `/proc/${pid}/environ`]).exitCode === 0)
    .map(Number);
}

function findCli(): number {
  const [pid, ...others] = findClis();
  if (pid === undefined || others.length > 0) throw new Error(`there is not one CLI, but ${findClis().length}`);
  return pid;
}

const jobState = (): string => findClis().map(state).join();

test("in the background, -t is stopped before it touches the terminal; fg gives it the terminal", async () => {
  await using shell = await openShell();
  shell.type("banger exec -t box -- sh -c 'echo began; read -r x; echo got $x' &\n");
  await eventually("the job is stopped", 10_000, () => jobState() === "T");
  shell.type("echo line-$((1 + 1))\n");
  await shell.appears(/line-2\r\n/);
  shell.type("fg\n");
  await shell.appears(/began\r\n/);
  shell.type("typed\r");
  await shell.appears(/got typed\r\n/);
});

test("a command with -t that doesn't go is left at the third signal, and the terminal is as it was", async () => {
  await using shell = await openShell();
  const script = 'trap "echo no" TERM; echo pid $$; while :; do sleep 0.05; done';
  shell.type(
    `before=$(stty -g); banger exec -t box -- bash -c '${script}'; test "$before" = "$(stty -g)" && echo same'': $?\n`,
  );
  const pid = (await shell.appears(/pid (\d+)\r\n/))[1] ?? "";
  const cli = findCli();
  for (let i = 0; i < 2; i++) {
    process.kill(cli, "SIGTERM");
    await shell.appears(/no\r\n/);
  }
  process.kill(cli, "SIGTERM");
  await shell.appears(/same: 0\r\n/);
  await eventually("the command is gone", 20_000, () => !isRunning(pid));
});

describe("without -t, in a terminal", () => {
  test("a job in the background eats none of the lines typed next: it is stopped, as any program that reads there", async () => {
    await using shell = await openShell();
    shell.type("banger exec box -- sh -c 'echo started; exec sleep 300' &\n");
    await shell.appears(/started/);
    for (let i = 0; i < 12; i++) {
      shell.type(`echo line-$((${i} + 100))\n`);
      await shell.appears(new RegExp(`line-${i + 100}\\r\\n`));
    }
    await eventually("the job is stopped", 10_000, () => jobState() === "T");
    shell.type("jobs\n");
    await shell.appears(/Stopped/);
    shell.type("fg\n");
    await eventually("the job goes on", 10_000, () => jobState() === "S");
    shell.type("\u0003");
    await shell.appears(/\$ $/);
    shell.type("echo status $?\n");
    await shell.appears(/status 130\r\n/);
  });

  test("with -n it runs on in the background", async () => {
    await using shell = await openShell();
    shell.type("banger exec -n box -- sh -c 'echo started; exit 6' &\n");
    await shell.appears(/started/);
    shell.type("wait $!; echo status $?\n");
    await shell.appears(/status 6\r\n/);
  });

  test("ctrl-z stops the command, and fg lets it go on", async () => {
    await using shell = await openShell();
    shell.type("banger exec box -- sh -c 'echo pid $$; read -r x; echo got $x'\n");
    const pid = (await shell.appears(/pid (\d+)\r\n/))[1] ?? "";
    shell.type("\u001a");
    await shell.appears(/Stopped/);
    await eventually("the command is stopped", 10_000, () => state(pid) === "T");
    shell.type("fg\n");
    await eventually("the command goes on", 10_000, () => state(pid) === "S");
    shell.type("typed\n");
    await shell.appears(/got typed\r\n/);
    await eventually("it ends", 10_000, () => !isRunning(pid));
  });

  test("lines go to the command; ctrl-d ends its input", async () => {
    await using shell = await openShell();
    shell.type("banger exec box -- sh -c 'while read -r x; do echo got $x; done; echo end'\n");
    shell.type("one\n");
    await shell.appears(/got one\r\n/);
    shell.type("\u0004");
    await shell.appears(/end\r\n/);
  });
});
