/**
 * Runs the scenarios of the installed system in test hosts.
 *
 *   bun test/hostvm/main.ts [--list] [--full] [--scenario NAME[,NAME…]] [--jobs N]
 *   bun test/hostvm/main.ts --shell     boots a host and prints how to log in; ctrl-c ends it
 *
 * One boot serves many scenarios. The last line counts them: `N passed, N failed, N skipped`.
 */

import { mkdir, mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { bootHost, findLostGuest, findStuckGuest, type Host, HostCrashed } from "./host.ts";
import { CACHE_DIR, ensureHostImage, type HostImage } from "./image.ts";
import type { Scenario } from "./scenario.ts";
import { makePayload } from "./support/payload.ts";

const SCENARIO_TIMEOUT_MS = 10 * 60_000;
const WATCH_EVERY_MS = 20_000;
/** How often to try a scenario whose host or guest the emulator crashes. */
const ATTEMPTS = 3;
const HOST_TOOLS = ["qemu-system-x86_64", "qemu-img", "mmdebstrap", "mkfs.ext4", "ssh", "ssh-keygen", "lz4"];
const FAILURES_DIR = join(CACHE_DIR, "hostvm-failures");

type Verdict =
  | { readonly kind: "passed" }
  | { readonly kind: "failed"; readonly why: string; readonly isHostGone: boolean }
  | { readonly kind: "skipped"; readonly why: string };

async function loadScenarios(): Promise<readonly Scenario[]> {
  const directory = join(import.meta.dir, "scenarios");
  const files = (await readdir(directory)).filter((name) => name.endsWith(".ts")).sort();
  return await Promise.all(
    files.map(async (file) => ((await import(join(directory, file))) as { scenario: Scenario }).scenario),
  );
}

/** Selects the named scenarios; without names all of them, long ones only in a full run. */
function choose(all: readonly Scenario[], wanted: string | undefined, isFull: boolean): readonly Scenario[] {
  if (wanted === undefined) return all.filter(({ isLong }) => isFull || isLong !== true);
  return wanted.split(",").map((name) => {
    const found = all.find((scenario) => scenario.name === name);
    if (found === undefined) throw new Error(`no scenario ${name}; --list shows them`);
    return found;
  });
}

/** Groups scenarios into boots: all that share a host, or a single one that needs its own. */
function intoBatches(scenarios: readonly Scenario[], jobs: number): readonly (readonly Scenario[])[] {
  const shared = scenarios.filter((scenario) => scenario.isolated !== true);
  const lanes = Array.from({ length: Math.min(jobs, shared.length) }, (_, lane) =>
    shared.filter((_, index) => index % jobs === lane),
  );
  return [...lanes, ...scenarios.filter((scenario) => scenario.isolated === true).map((scenario) => [scenario])];
}

async function runBatch(
  batch: readonly Scenario[],
  image: HostImage,
  payloadPath: string,
  signal: AbortSignal,
  report: (scenario: Scenario, verdict: Verdict, ms: number) => void,
): Promise<void> {
  const waiting = [...batch];
  const crashes = new Map<Scenario, number>();
  while (waiting.length > 0 && !signal.aborted) {
    let host;
    try {
      host = await bootHost({ image, payloadPath, signal, note: (message) => console.log(`     ${message}`) });
    } catch (thrown) {
      if (signal.aborted) return;
      for (const scenario of waiting)
        report(scenario, { kind: "failed", why: `no host: ${messageOf(thrown)}`, isHostGone: true }, 0);
      return;
    }
    await using running = host;
    while (waiting.length > 0) {
      const scenario = waiting.shift();
      if (scenario === undefined || signal.aborted) break;
      const began = performance.now();
      const verdict = await runOne(scenario, running);
      if (signal.aborted) break;
      const crashed = crashes.get(scenario) ?? 0;
      if (verdict.kind === "failed" && verdict.isHostGone && crashed < ATTEMPTS - 1) {
        // The emulator's crash is not the scenario's fault, but the last attempt counts as failed all the same.
        console.log(`again ${scenario.name}: ${verdict.why}`);
        crashes.set(scenario, crashed + 1);
        waiting.unshift(scenario);
        break;
      }
      report(scenario, verdict, performance.now() - began);
      // A failed scenario may leave a dirty host, so the next one gets a new host.
      if (verdict.kind === "failed") break;
    }
  }
}

async function runOne(scenario: Scenario, host: Host): Promise<Verdict> {
  const timeoutMs = scenario.timeoutMs ?? SCENARIO_TIMEOUT_MS;
  const late = Promise.withResolvers<never>();
  const timer = setTimeout(() => late.reject(new Error(`not finished within ${timeoutMs / 1000} s`)), timeoutMs);
  const watch = new AbortController();
  try {
    const ends: Promise<unknown>[] = [scenario.run(host), late.promise];
    if (scenario.needs?.includes("firecracker") === true) ends.push(watchGuests(host, watch.signal));
    await Promise.race(ends);
    return { kind: "passed" };
  } catch (thrown) {
    // If the emulator crashed a guest, the scenario's message is no verdict on banger.
    const lost = thrown instanceof HostCrashed ? null : await findLostGuest(host, messageOf(thrown)).catch(() => null);
    const kept = await collect(scenario, host, thrown).catch((lost: unknown) => `not collected: ${messageOf(lost)}`);
    return {
      kind: "failed",
      why: `${messageOf(thrown)}${lost === null ? "" : `\n  ${lost}`}\n  logs: ${kept}`,
      isHostGone: thrown instanceof HostCrashed || lost !== null,
    };
  } finally {
    clearTimeout(timer);
    watch.abort();
  }
}

/** Never resolves. @throws HostCrashed if the emulator has crashed a guest */
async function watchGuests(host: Host, signal: AbortSignal): Promise<never> {
  while (!signal.aborted) {
    await Bun.sleep(WATCH_EVERY_MS);
    if (signal.aborted) break;
    // If the host doesn't answer right now, the scenario decides.
    const stuck = await findStuckGuest(host).catch(() => null);
    if (stuck !== null) throw new HostCrashed(`the emulator is stuck in a guest: ${stuck}`);
  }
  return await new Promise(() => {});
}

/** Saves what explains the failure: the journal, the console and the host's state. Returns the directory. */
async function collect(scenario: Scenario, host: Host, thrown: unknown): Promise<string> {
  const directory = join(FAILURES_DIR, scenario.name);
  await rm(directory, { recursive: true, force: true });
  await mkdir(directory, { recursive: true });
  await writeFile(
    join(directory, "error.txt"),
    thrown instanceof Error ? (thrown.stack ?? thrown.message) : String(thrown),
  );
  await writeFile(join(directory, "console.log"), await host.console());
  const looks: Readonly<Record<string, readonly string[]>> = {
    "journal.log": ["journalctl", "--no-pager", "-b", "-o", "short-monotonic"],
    // The logs of the daemon and of VMs, running or ended.
    "vms.txt": [
      "bash",
      "-c",
      "cd /var/lib/banger && for file in owner/daemon.log jail/firecracker/*/root/io/*.log owner/vms/*/*.log; do " +
        '[ -f "$file" ] && printf "\\n== %s\\n" "$file" && tail -c 32768 "$file" | tr -d "\\000"; done; true',
    ],
    "state.txt": [
      "bash",
      "-c",
      "systemctl --no-pager --failed; systemctl --no-pager status 'banger*'; ps axfo pid,user,cgroup,args; ip -d addr; " +
        "ip route; iptables-save; nft list ruleset; dmsetup table; losetup -a; cat /proc/mounts; ls -lRa /run/banger* /var/lib/banger /etc/banger",
    ],
  };
  for (const [file, argv] of Object.entries(looks)) {
    const said = await host.run(argv, { timeoutMs: 60_000 });
    await writeFile(join(directory, file), said.stdout + said.stderr);
  }
  return directory;
}

const messageOf = (thrown: unknown): string => (thrown instanceof Error ? thrown.message : String(thrown));

async function main(): Promise<number> {
  const { values } = parseArgs({
    options: {
      list: { type: "boolean" },
      scenario: { type: "string" },
      jobs: { type: "string", default: "1" },
      full: { type: "boolean", default: false },
      shell: { type: "boolean" },
    },
  });
  const all = await loadScenarios();
  const scenarios = choose(all, values.scenario, values.full || values.list === true);
  if (values.list === true) {
    const width = Math.max(...scenarios.map(({ name }) => name.length));
    for (const { name, summary } of scenarios) console.log(`${name.padEnd(width)}  ${summary}`);
    return 0;
  }
  const jobs = Number(values.jobs);
  if (!Number.isInteger(jobs) || jobs < 1) throw new Error("--jobs takes a whole number from 1");

  const counts = { passed: 0, failed: 0, skipped: 0 };
  const report = (scenario: Scenario, verdict: Verdict, ms: number): void => {
    counts[verdict.kind]++;
    const seconds = `${(ms / 1000).toFixed(1)} s`;
    if (verdict.kind === "passed") console.log(`ok   ${scenario.name} (${seconds})`);
    else if (verdict.kind === "failed") console.log(`FAIL ${scenario.name} (${seconds}): ${verdict.why}`);
    else console.log(`skip ${scenario.name}: ${verdict.why}`);
  };

  const absent = HOST_TOOLS.filter((tool) => Bun.which(tool) === null);
  const abort = new AbortController();
  const interrupt = (): void => abort.abort(new Error("interrupted"));
  for (const name of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(name, interrupt);
  if (process.arch !== "x64" || absent.length > 0) {
    const why = absent.length > 0 ? `${absent.join(", ")} not installed` : "the test host is an x86-64 machine";
    for (const scenario of scenarios) report(scenario, { kind: "skipped", why }, 0);
  } else {
    const directory = await mkdtemp(join(tmpdir(), "bh-run-"));
    try {
      const image = await ensureHostImage((message) => console.log(`     ${message}`), abort.signal);
      const payload = await makePayload(
        image,
        directory,
        scenarios.some(({ needs }) => needs?.includes("image") === true),
      );
      if (values.shell === true) {
        await using host = await bootHost({
          image,
          payloadPath: payload.imagePath,
          signal: abort.signal,
          note: (message) => console.log(`     ${message}`),
        });
        console.log(host.sshCommand);
        await new Promise<void>((resolve) => abort.signal.addEventListener("abort", () => resolve(), { once: true }));
        return 0;
      }
      const runnable: Scenario[] = [];
      for (const scenario of scenarios) {
        const why = (scenario.needs ?? []).map((need) => payload.missing[need]).find((reason) => reason !== null);
        if (why === undefined) runnable.push(scenario);
        else report(scenario, { kind: "skipped", why: why ?? "" }, 0);
      }
      const batches = [...intoBatches(runnable, jobs)];
      await Promise.all(
        Array.from({ length: jobs }, async () => {
          for (let batch = batches.shift(); batch !== undefined; batch = batches.shift())
            await runBatch(batch, image, payload.imagePath, abort.signal, report);
        }),
      );
    } catch (thrown) {
      if (!abort.signal.aborted) throw thrown;
    } finally {
      await rm(directory, { recursive: true, force: true });
    }
  }
  if (values.scenario === undefined && !values.full) {
    const long = all.filter(({ isLong }) => isLong === true).map(({ name }) => name);
    if (long.length > 0) console.log(`     not in the default run: ${long.join(", ")} (npm run test:full)`);
  }
  if (abort.signal.aborted) {
    console.log("interrupted; every host is gone");
    return 130;
  }
  console.log(`${counts.passed} passed, ${counts.failed} failed, ${counts.skipped} skipped`);
  return counts.failed === 0 ? 0 : 1;
}

process.exitCode = await main();
