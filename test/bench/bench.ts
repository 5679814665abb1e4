/**
 * The figures of docs/performance.md, as ratios of two things timed alternately in one run, so that a noisy machine disturbs both.
 * `bun run bench [--rounds N] [--boots N] [--copies N] [--only NAME,…] [--against BANGER]`; prints one JSON document.
 *
 * `--against` names another version's executable, to which starts and copies are compared.
 */

import { readFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import { parseArgs } from "node:util";
import { BANGER, type Home, makeHomeWithImage } from "../support/banger.ts";
import { makeTemplate, timeByHand } from "./by-hand.ts";
import { compareCopies } from "./copies.ts";
import { compare, type Ratio, time } from "./ratio.ts";

const { values } = parseArgs({
  options: {
    rounds: { type: "string", default: "15" },
    boots: { type: "string", default: "3" },
    copies: { type: "string", default: "3" },
    against: { type: "string" },
    only: { type: "string" },
  },
});
const rounds = Number(values.rounds);
const only = values.only?.split(",");

/** From the command line to the first byte of the guest command's output. */
async function timeRun(home: Home): Promise<number> {
  const start = performance.now();
  const child = home.spawn(["vm", "run", "--rm", "--name", "bench-run", "--", "echo", "up"]);
  await child.stdout.getReader().read();
  const elapsed = performance.now() - start;
  if ((await child.exited) !== 0) throw new Error(await new Response(child.stderr).text());
  return elapsed;
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
const startWarm = async (of: Home): Promise<void> =>
  void (await of.ok(["vm", "run", "-d", "--name", "warm"], { timeoutMs: 300_000 }));
if (wanted("exec")) {
  await startWarm(home);
  const { sshArgv } = await connect(home, "warm");
  ratios.push(
    await compare(
      "warm vm exec /bin/true : ssh /bin/true over an open control connection",
      0.5,
      rounds,
      () => time([BANGER, "vm", "exec", "warm", "--", "/bin/true"], home.env),
      () => time([...sshArgv, "/bin/true"], home.env),
    ),
  );
  await home.ok(["vm", "delete", "warm"]);
}
if (wanted("boot")) {
  const template = await makeTemplate(home);
  ratios.push(
    await compare(
      "vm run to its guest command : the same QEMU line by hand",
      1.15,
      Number(values.boots),
      () => timeRun(home),
      () => timeByHand(home, template),
    ),
  );
}
if (values.against !== undefined) {
  await using other = await makeHomeWithImage(resolve(values.against));
  await other.ok(["ps"]);
  if (wanted("run"))
    ratios.push(
      await compare(
        "vm run to its guest command : by the other banger",
        0.6,
        Number(values.boots),
        () => timeRun(home),
        () => timeRun(other),
      ),
    );
  if (wanted("copy")) {
    await startWarm(home);
    await startWarm(other);
    ratios.push(...(await compareCopies(home, other, Number(values.copies))));
    await home.ok(["vm", "delete", "warm"]);
  }
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
