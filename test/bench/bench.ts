/**
 * The figures of docs/performance.md, as ratios of two things timed alternately in one run, so that a noisy
 * machine disturbs both. `bun run bench [--rounds N] [--only NAME,…]`; prints one JSON document.
 */

import { cp, mkdir, readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { BANGER, type Home, makeHomeWithImage } from "../support/banger.ts";
import { median } from "../support/median.ts";

interface Ratio {
  readonly what: string;
  readonly oursMs: number;
  readonly theirsMs: number;
  readonly ratio: number;
  readonly bar: number | null;
  readonly rounds: number;
}

const { values } = parseArgs({
  options: {
    rounds: { type: "string", default: "15" },
    boots: { type: "string", default: "3" },
    only: { type: "string" },
  },
});
const rounds = Number(values.rounds);
const only = values.only?.split(",");

async function time(argv: readonly string[], env: Readonly<Record<string, string>>): Promise<number> {
  const start = performance.now();
  const child = Bun.spawn([...argv], { env, stdin: "ignore", stdout: "ignore", stderr: "ignore" });
  const status = await child.exited;
  if (status !== 0) throw new Error(`${argv.join(" ")} ended with ${status}`);
  return performance.now() - start;
}

async function compare(
  what: string,
  bar: number | null,
  count: number,
  ours: () => Promise<number>,
  theirs: () => Promise<number>,
): Promise<Ratio> {
  const oursMs: number[] = [];
  const theirsMs: number[] = [];
  for (let round = 0; round < count; round++) {
    oursMs.push(await ours());
    theirsMs.push(await theirs());
  }
  const row = {
    what,
    oursMs: median(oursMs),
    theirsMs: median(theirsMs),
    ratio: median(oursMs) / median(theirsMs),
    bar,
    rounds: count,
  };
  console.error(
    `${what}: ${row.oursMs.toFixed(1)} ms / ${row.theirsMs.toFixed(1)} ms = ${row.ratio.toFixed(2)}${bar === null ? "" : ` (bar ${bar})`}`,
  );
  return row;
}

/** From the command line to the first byte of the guest command's output. */
async function timeRun(home: Home): Promise<number> {
  const start = performance.now();
  const child = home.spawn(["vm", "run", "--rm", "--name", "bench-run", "--", "echo", "up"]);
  await child.stdout.getReader().read();
  const elapsed = performance.now() - start;
  if ((await child.exited) !== 0) throw new Error(await new Response(child.stderr).text());
  return elapsed;
}

/**
 * The same QEMU line by hand: the running VM's own argv with other disks, sockets and port, then ssh in a loop until a
 * command runs. The argv and disks are prepared before the clock starts.
 */
async function timeByHand(
  home: Home,
  template: readonly string[],
  vm: { readonly id: string; readonly name: string },
): Promise<number> {
  const dir = join(home.dir, "by-hand");
  await rm(dir, { recursive: true, force: true });
  await mkdir(dir, { mode: 0o700 });
  const state = join(home.stateDir, "vms", vm.id);
  const runtime = join(home.runtimeDir, "vms", vm.id);
  for (const disk of ["root.qcow2", "work.ext4"]) {
    const copy = Bun.spawn(["cp", "--sparse=always", join(home.dir, "pristine", disk), join(dir, disk)]);
    if ((await copy.exited) !== 0) throw new Error("cp failed");
  }
  const port = 20000 + Math.floor(Math.random() * 20000);
  const argv = template.map((word) =>
    word
      .replaceAll(state, dir)
      .replaceAll(runtime, dir)
      .replace(/hostfwd=tcp:127\.0\.0\.1:\d+-/, `hostfwd=tcp:127.0.0.1:${port}-`),
  );
  const ssh = [
    ...[
      "ssh",
      "-F",
      "/dev/null",
      "-i",
      join(home.stateDir, "ssh/id_ed25519"),
      "-o",
      "BatchMode=yes",
      "-o",
      "StrictHostKeyChecking=no",
    ],
    ...[
      "-o",
      "UserKnownHostsFile=/dev/null",
      "-o",
      "LogLevel=QUIET",
      "-o",
      "ConnectTimeout=2",
      "-p",
      String(port),
      "root@127.0.0.1",
      "true",
    ],
  ];
  const start = performance.now();
  const qemu = Bun.spawn(argv, { env: home.env, stdin: "ignore", stdout: "ignore", stderr: "pipe" });
  try {
    for (;;) {
      const attempt = Bun.spawn(["timeout", "5", ...ssh], { stdin: "ignore", stdout: "ignore", stderr: "ignore" });
      if ((await attempt.exited) === 0) return performance.now() - start;
      if (performance.now() - start > 300_000)
        throw new Error(`the guest started by hand did not answer: ${argv.join(" ")}`);
      await Bun.sleep(50);
    }
  } finally {
    const pidFile = await readFile(join(dir, "qemu.pid"), "utf8").catch(() => null);
    if (pidFile !== null) process.kill(Number(pidFile), "SIGKILL");
    qemu.kill("SIGKILL");
    await qemu.exited;
    await Bun.sleep(200);
  }
}

async function residentMiB(pid: number): Promise<number> {
  const status = await readFile(`/proc/${pid}/status`, "utf8");
  return Number(/VmRSS:\s+(\d+)/.exec(status)?.[1] ?? NaN) / 1024;
}

await using home = await makeHomeWithImage();
const wanted = (name: string): boolean => only === undefined || only.includes(name);
const ratios: Ratio[] = [];
let daemonResidentMiB: number | null = null;

await home.ok(["ps"]);
if (wanted("start")) {
  ratios.push(
    await compare(
      "banger version : /bin/true",
      null,
      rounds,
      () => time([BANGER, "version"], home.env),
      () => time(["/bin/true"], home.env),
    ),
  );
  ratios.push(
    await compare(
      "banger ps : /bin/true",
      null,
      rounds,
      () => time([BANGER, "ps"], home.env),
      () => time(["/bin/true"], home.env),
    ),
  );
}
if (wanted("memory")) {
  await Bun.sleep(5000);
  daemonResidentMiB = await residentMiB((await home.daemonPid()) ?? 0);
  console.error(`idle daemon: ${daemonResidentMiB.toFixed(1)} MiB resident (bar 70)`);
}
if (wanted("exec")) {
  await home.ok(["vm", "run", "-d", "--name", "warm"], { timeoutMs: 300_000 });
  const { sshArgv } = await connect(home, "warm");
  ratios.push(
    await compare(
      "warm vm exec true : ssh /bin/true over an open control connection",
      1.5,
      rounds,
      () => time([BANGER, "vm", "exec", "warm", "--", "true"], home.env),
      () => time([...sshArgv, "/bin/true"], home.env),
    ),
  );
  await home.ok(["vm", "delete", "warm"]);
}
if (wanted("boot")) {
  await home.ok(["vm", "create", "--name", "template", "--no-start"]);
  const vm = await home.json<{ id: string; name: string }>(["vm", "show", "template"]);
  await mkdir(join(home.dir, "pristine"));
  await home.ok(["vm", "start", "template"], { timeoutMs: 300_000 });
  const running = await home.json<{ pid: number }>(["vm", "show", "template"]);
  const argv = (await readFile(`/proc/${running.pid}/cmdline`, "utf8")).split("\0").slice(0, -1);
  await home.ok(["vm", "stop", "template"]);
  for (const disk of ["root.qcow2", "work.ext4"])
    await cp(join(home.stateDir, "vms", vm.id, disk), join(home.dir, "pristine", disk));
  ratios.push(
    await compare(
      "vm run to its guest command : the same QEMU line by hand",
      1.15,
      Number(values.boots),
      () => timeRun(home),
      () => timeByHand(home, argv, vm),
    ),
  );
}

/** The ssh line the CLI itself uses, asked of the daemon. */
async function connect(of: Home, vm: string): Promise<{ readonly sshArgv: readonly string[] }> {
  const response = await fetch("http://banger/v1/vm.connect", {
    method: "POST",
    unix: join(of.runtimeDir, "bangerd.sock"),
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ vm }),
  });
  return ((await response.json()) as { result: { sshArgv: readonly string[] } }).result;
}

console.log(JSON.stringify({ ratios, daemonResidentMiB, date: new Date().toISOString() }, null, 2));
const missed = ratios.filter(({ ratio, bar }) => bar !== null && ratio > bar);
if (missed.length > 0 || (daemonResidentMiB ?? 0) > 70) {
  console.error(
    `over the bar: ${[...missed.map(({ what }) => what), ...((daemonResidentMiB ?? 0) > 70 ? ["daemon memory"] : [])].join("; ")}`,
  );
  process.exitCode = 1;
}
