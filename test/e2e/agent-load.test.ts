/**
 * Many execs through one guest's agent, and long streams: nothing is left over, nothing is lost, and nothing grows. `npm run test:full` runs
 * more of them (BANGER_TEST_LONG).
 */

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { randomBytes } from "node:crypto";
import { open, readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import type { AgentPlace } from "../../src/shared/agent/channel.ts";
import { runInGuest } from "../../src/shared/agent/client.ts";
import { eventually, type Home, makeHomeWithImage } from "../support/banger.ts";

const IS_LONG = process.env["BANGER_TEST_LONG"] === "1";
const CONCURRENT = 50;
const SEQUENTIAL = IS_LONG ? 2000 : 200;
const STREAM_BYTES = IS_LONG ? 1024 ** 3 : 64 * 1024 ** 2;
const MANY_BYTES = 256 * 1024 ** 2;
/** More than all buffers on the way hold together, of which the queue of a virtio-serial port in the guest's kernel has 20 MB. */
const UNDER_WAY_BYTES = 40 * 1024 ** 2;
/** Of a process of banger's that hands on bytes. Bun alone has about 60. */
const HOST_MIB = 160;
const GUEST_AGENT_KIB = 8 * 1024;
const TIMEOUT_MS = IS_LONG ? 900_000 : 300_000;

let home: Home;
let place: AgentPlace;
beforeAll(async () => {
  home = await makeHomeWithImage();
  await home.ok(["vm", "run", "-d", "--name", "box"], { timeoutMs: 300_000 });
  const connect = async (way: "agent" | "ssh"): Promise<AgentPlace> => {
    const answer = await fetch("http://banger/v1/vm.connect", {
      method: "POST",
      unix: join(home.runtimeDir, "bangerd.sock"),
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ vm: "box", accepts: [way] }),
    });
    return ((await answer.json()) as { result: { channel: AgentPlace } }).result.channel;
  };
  place = await connect("agent");
  // What the boot still starts would be counted, and takes the processors that 50 execs need.
  await inGuest("systemctl is-system-running --wait || true", 600_000);
  // The connection that all execs share which find no port free for long.
  await connect("ssh");
}, 900_000);
afterAll(async () => await home[Symbol.asyncDispose]());

const inGuest = async (script: string, timeoutMs = 60_000): Promise<string> => {
  const { exit, stdout, stderr } = await runInGuest(
    place,
    { argv: ["sh", "-c", script], env: [] },
    { timeoutMs, outputLimitBytes: 1_000_000 },
  );
  if (exit.status !== 0) throw new Error(`${script}: ${exit.status} ${stderr.toString()}`);
  return stdout.toString();
};

/** A loop over the guest's processes with this in one of their files; without programs, which take an emulated guest long to start. */
const forEachProcess = (file: string, pattern: string, work: string): string =>
  `for p in /proc/[0-9]*; do name=; IFS= read -r name < $p/${file}; case $name in ${pattern}) ${work};; esac; done 2>/dev/null`;

/** Of the guest: the agent's processes with their descriptors, and the control groups of execs. One of each is this question's own. */
const countInGuest = async (): Promise<string> =>
  await inGuest(`
    ${forEachProcess("cmdline", "@banger-agent*", "ls $p/fd | wc -l")} | sort -n
    ls -d /sys/fs/cgroup/banger/exec-* | wc -l`);

const descriptorsOf = async (pid: number): Promise<number> => (await readdir(`/proc/${pid}/fd`)).length;

interface Counts {
  readonly guest: string;
  readonly processes: readonly string[];
  readonly descriptors: readonly number[];
}

/** Of guest and host, when nothing runs. */
async function count(): Promise<Counts> {
  const processes = (await home.processes()).map(({ commandLine }) => commandLine).sort();
  const { pid } = await home.json<{ pid: number }>(["vm", "show", "box"]);
  const daemon = await home.daemonPid();
  return {
    guest: await countInGuest(),
    processes,
    descriptors: [await descriptorsOf(pid), await descriptorsOf(daemon ?? 0), await descriptorsOf(process.pid)],
  };
}

/** Some things end a moment later: sockets, and processes that their parents have yet to reap. */
async function expectNoMore(before: Counts): Promise<void> {
  const found = { guest: before.guest, processes: before.processes, more: [false, false, false] };
  let after: unknown;
  await eventually("the counts of before", 60_000, async () => {
    const { guest, processes, descriptors } = await count();
    after = { guest, processes, more: descriptors.map((number, i) => number > (before.descriptors[i] ?? 0)) };
    return Bun.deepEquals(after, found);
  }).catch(() => undefined);
  expect(after).toEqual(found);
}

describe("nothing is left of", () => {
  test(
    `${CONCURRENT} execs at once, each with its own input, outputs and status`,
    async () => {
      const before = await count();
      const script = 'cat; printf "%s" "$0" >&2; exit "$1"';
      const results = await Promise.all(
        Array.from({ length: CONCURRENT }, (_, i) =>
          home.run(["vm", "exec", "box", "--", "sh", "-c", script, `err-${i}`, String(i)], {
            stdin: `in-${i}`,
            timeoutMs: TIMEOUT_MS,
          }),
        ),
      );
      expect(results.map(({ status, stdout, stderr }) => [status, stdout, stderr])).toEqual(
        results.map((_, i) => [i, `in-${i}`, `err-${i}`]),
      );
      await expectNoMore(before);
    },
    TIMEOUT_MS,
  );

  test(
    `${SEQUENTIAL} execs one after the other`,
    async () => {
      const before = await count();
      for (let i = 0; i < SEQUENTIAL; i++) expect(await inGuest(`echo ${i}`)).toBe(`${i}\n`);
      await expectNoMore(before);
    },
    TIMEOUT_MS,
  );
});

/** The highest memory use so far of banger's process with these words. Null when it has ended. */
async function peakMiB(words: string): Promise<number | null> {
  const found = (await home.processes()).find(({ commandLine }) => commandLine.startsWith(`${home.banger} ${words}`));
  if (found === undefined) return null;
  const status = await readFile(`/proc/${found.pid}/status`, "utf8").catch(() => "");
  return Number(/VmHWM:\s+(\d+)/.exec(status)?.[1] ?? 0) / 1024;
}

/** Runs a shell line with `$0` for banger; its stdout. */
function shell(line: string, ...args: readonly string[]): Bun.Subprocess<"ignore", "pipe", "pipe"> {
  return Bun.spawn(["sh", "-c", line, home.banger, ...args], {
    cwd: home.dir,
    env: { ...home.env },
    stdin: "ignore",
    stdout: "pipe",
    stderr: "pipe",
  });
}

async function outputOf(child: Bun.Subprocess<"ignore", "pipe", "pipe">): Promise<string> {
  const [stdout, stderr] = await Promise.all([new Response(child.stdout).text(), new Response(child.stderr).text()]);
  return `${stdout.trim()}${stderr}`;
}

/** The highest memory use of any of the agent's processes in the guest. */
const agentPeakKib = async (): Promise<number> =>
  Number(
    await inGuest(
      `${forEachProcess("cmdline", "@banger-agent*", "grep VmHWM: $p/status")} | tr -dc '0-9\\n' | sort -n | tail -1`,
    ),
  );

describe("streams", () => {
  test(
    `${STREAM_BYTES / 1024 ** 2} MiB go in and come out, byte for byte`,
    async () => {
      const piece = randomBytes(8 * 1024 ** 2 + 4099);
      const file = await open(join(home.dir, "stream"), "w");
      for (let at = 0; at < STREAM_BYTES; at += piece.length)
        await file.write(piece, 0, Math.min(piece.length, STREAM_BYTES - at));
      await file.close();
      const child = shell('"$0" vm exec box -- cat < stream | cmp - stream && echo same');
      let peak = 0;
      const watching = eventually("the stream's end", TIMEOUT_MS, async () => {
        peak = Math.max(peak, (await peakMiB("vm exec box -- cat")) ?? 0);
        return child.exitCode !== null;
      });
      expect(await outputOf(child)).toBe("same");
      await watching;
      expect(peak).toBeGreaterThan(0);
      expect(peak).toBeLessThan(HOST_MIB);
    },
    TIMEOUT_MS,
  );

  /** Waits until a process writes no more, though it could go on; how many bytes it wrote. */
  const settled = async (written: () => Promise<number>): Promise<number> => {
    let [last, now] = [-1, 0];
    await eventually("the writer is stopped", 120_000, async () => {
      [last, now] = [now, await written()];
      await Bun.sleep(500);
      return now > 0 && now === last;
    });
    return now;
  };

  test(
    "a slow reader here stops the writer there",
    async () => {
      expect(Bun.spawnSync(["mkfifo", join(home.dir, "go")]).exitCode).toBe(0);
      const child = shell(
        `"$0" vm exec box -- head -c ${MANY_BYTES} /dev/zero | { head -c 1000 | wc -c; read -r go < go; wc -c; }`,
      );
      const counted = 'while read -r key value; do if [ "$key" = wchar: ]; then echo $value; fi; done < $p/io';
      const written = async (): Promise<number> => Number(await inGuest(forEachProcess("comm", "head", counted)));
      expect(await settled(written)).toBeLessThan(UNDER_WAY_BYTES);
      expect(await peakMiB("vm exec box -- head")).toBeLessThan(HOST_MIB);
      expect(await agentPeakKib()).toBeLessThan(GUEST_AGENT_KIB);
      const go = Bun.spawn(["sh", "-c", "echo > go"], { cwd: home.dir });
      const output = await outputOf(child);
      const [first, rest] = output.split("\n").map(Number);
      // head(1) may read more than it prints.
      expect([first, (rest ?? 0) > MANY_BYTES - 100_000]).toEqual([1000, true]);
      await go.exited;
    },
    TIMEOUT_MS,
  );

  test(
    "a slow reader there stops the writer here",
    async () => {
      await inGuest("mkfifo /run/go");
      const child = shell(
        `head -c ${MANY_BYTES} /dev/zero | "$0" vm exec box -- sh -c 'dd bs=1000 count=1 status=none | wc -c; read -r go < /run/go; wc -c'`,
      );
      const written = async (): Promise<number> => {
        const head = (await home.processes()).find(({ commandLine }) => commandLine.startsWith("head -c"));
        const io = await readFile(`/proc/${head?.pid ?? 0}/io`, "utf8").catch(() => "");
        return Number(/wchar: (\d+)/.exec(io)?.[1] ?? 0);
      };
      expect(await settled(written)).toBeLessThan(UNDER_WAY_BYTES);
      expect(await peakMiB("vm exec box -- sh")).toBeLessThan(HOST_MIB);
      expect(await agentPeakKib()).toBeLessThan(GUEST_AGENT_KIB);
      await inGuest("echo > /run/go; rm /run/go");
      expect(await outputOf(child)).toBe(`1000\n${MANY_BYTES - 1000}`);
    },
    TIMEOUT_MS,
  );
});
