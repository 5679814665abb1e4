/**
 * Measures the installed system, as ratios of two things timed alternately in one test host, so that disturbances
 * affect both: `bun run bench:host [--rounds N]`. Prints one JSON document; exits with 1 if a bar is missed.
 */

import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { bootHost, type Host } from "./host.ts";
import { median } from "../support/median.ts";
import { ensureHostImage } from "./image.ts";
import {
  askHelper,
  BOOT_TIMEOUT_MS,
  bangerOk,
  ensureInstalledWithImage,
  type GuestVm,
  inGuest,
  showVm,
  SMALL_VM,
} from "./support/guests.ts";
import { mainPid } from "./support/installed.ts";
import { makePayload } from "./support/payload.ts";

/** Of a start and the first command's output. */
const START_BAR = 0.6;
const EXEC_BAR = 0.5;
const HELPER_BAR_MIB = 50;
const DAEMON_BAR_MIB = 70;
const CREATES = 8;
const EXECS_EACH_ROUND = 3;
const LOST_ROUNDS_LIMIT = 3;
/** USER_HZ, the unit of times in /proc: 100 on every Linux that banger runs on. */
const CLOCK_TICKS = 100;
const SERVICES = { helper: "bangerd-root.service", daemon: "bangerd.service" } as const;
const STATE = "/var/lib/banger/owner";
const COW = "/var/lib/banger/cow";
const BARE = "/srv/bare";

const { values } = parseArgs({ options: { rounds: { type: "string", default: "5" } } });
const rounds = Number(values.rounds);

/** Times a command in the host, in milliseconds, by the host's own clock. */
async function time(host: Host, user: "root" | "dev", script: string, ...args: readonly string[]): Promise<number> {
  const text = await host.sh(`began=$(date +%s%N)\n${script}\necho $(( ($(date +%s%N) - began) / 1000000 ))`, args, {
    user,
    timeoutMs: BOOT_TIMEOUT_MS,
  });
  return Number(text.trim().split("\n").at(-1));
}

/** The options of a connection to a guest by hand, as root of the host. */
const SSH = `ssh -F /dev/null -i ${STATE}/ssh/id_ed25519 -o BatchMode=yes -o StrictHostKeyChecking=no \\
  -o UserKnownHostsFile=/dev/null -o LogLevel=QUIET -o ConnectTimeout=2`;

/** Times /bin/true in a running guest, alternately by banger and over a control connection of ssh that is already open. */
async function timeExecs(
  host: Host,
  { guestIp }: GuestVm,
): Promise<{ readonly oursMs: readonly number[]; readonly sshMs: readonly number[] }> {
  const control = "-o ControlPath=/run/bench-control";
  // banger's start doesn't wait for sshd.
  await host.sh(
    `until ${SSH} ${control} -o ControlMaster=yes -f -N "root@$1" > /dev/null 2>&1; do sleep 0.2; done`,
    [guestIp],
    { timeoutMs: BOOT_TIMEOUT_MS },
  );
  const oursMs: number[] = [];
  const sshMs: number[] = [];
  for (let round = 0; round < rounds * EXECS_EACH_ROUND; round++) {
    oursMs.push(await time(host, "dev", "banger vm exec bench -- /bin/true"));
    sshMs.push(await time(host, "root", `${SSH} ${control} "root@$1" /bin/true`, guestIp));
  }
  await host.sh(`${SSH} ${control} -O exit "root@$1"`, [guestIp]);
  return { oursMs, sshMs };
}

/**
 * Writes as much memory as a guest used. Under QEMU's emulation the first write to a page from which a guest ran code
 * is many times slower, and chance would decide which of two timed starts meets such pages.
 */
async function settleMemory(host: Host): Promise<void> {
  await host.sh("dd if=/dev/zero of=/dev/shm/settle bs=1M count=800 status=none; rm /dev/shm/settle", [], {
    timeoutMs: BOOT_TIMEOUT_MS,
  });
}

/** Times `vm start`, which returns once a command has run in the guest, and then the user's first command. */
async function timeOurs(host: Host): Promise<{ readonly startMs: number; readonly execMs: number }> {
  await settleMemory(host);
  const startMs = await time(host, "dev", "banger vm start bench > /dev/null 2>&1");
  const execMs = await time(host, "dev", "banger vm exec bench -- true");
  await bangerOk(host, "vm", "stop", "bench");
  return { startMs, execMs };
}

/**
 * The same kernel, initrd, boot arguments, guest and disks, started by Firecracker alone with a configuration file, and
 * ssh in a loop. The VM's own snapshot, a copy of its work disk, a tap and the file are made before the clock starts;
 * the guest's writes to the snapshot are undone afterwards.
 */
async function timeBare(host: Host, vm: GuestVm, bootArgs: string): Promise<number> {
  const cow = `${COW}/${vm.id}.cow`;
  try {
    await host.sh(
      `mkdir -p ${BARE}
       cp -a --sparse=always "$1" ${BARE}/cow.part
       mv ${BARE}/cow.part ${BARE}/cow
       cp --sparse=always "$2" ${BARE}/work.ext4
       ip tuntap add dev bare0 mode tap
       ip link set bare0 master br-fc up`,
      [cow, `${STATE}/vms/${vm.id}/work.ext4`],
    );
    await askHelper(host, "priv.create_dm_snapshot", {
      vm: vm.id,
      image: vm.image,
      root_bytes: vm.spec.systemOverlayBytes,
    });
    await host.writeFile(`${BARE}/config.json`, JSON.stringify(await bareConfig(host, vm, bootArgs)), 0o600);
    await settleMemory(host);
    return await time(
      host,
      "root",
      `/payload/firecracker/firecracker --no-api --config-file ${BARE}/config.json > ${BARE}/console 2>&1 &
       echo $! > ${BARE}/pid
       until timeout 20 ${SSH} "root@$1" true; do
         kill -0 "$(cat ${BARE}/pid)" || { tail -5 ${BARE}/console >&2; exit 1; }
         sleep 0.05
       done`,
      vm.guestIp,
    );
  } finally {
    // The round may be repeated, wherever this one ended.
    await host.sh(`kill -9 "$(cat ${BARE}/pid)" || true; sleep 1; ip link del bare0 || true`);
    await askHelper(host, "priv.remove_dm_snapshot", { vm: vm.id, discard: false });
    await host.sh(`[ ! -e ${BARE}/cow ] || mv ${BARE}/cow "$1"; rm -rf ${BARE}`, [cow]);
  }
}

/** Writes what `firecracker --config-file` reads: the devices that the VM has under banger. */
async function bareConfig(host: Host, { id, spec }: GuestVm, bootArgs: string): Promise<unknown> {
  const kernel = (await host.sh(`ls -d ${STATE}/kernels/*`)).trim();
  const drive = (name: string, path: string, isRoot: boolean) => ({
    drive_id: name,
    path_on_host: path,
    is_root_device: isRoot,
    is_read_only: false,
    cache_type: "Writeback",
  });
  return {
    "boot-source": { kernel_image_path: `${kernel}/vmlinux`, initrd_path: `${kernel}/initrd.img`, boot_args: bootArgs },
    "machine-config": { vcpu_count: spec.vcpu, mem_size_mib: spec.memoryMiB },
    drives: [drive("root", `/dev/mapper/fc-rootfs-${id}`, true), drive("work", `${BARE}/work.ext4`, false)],
    "network-interfaces": [{ iface_id: "eth0", host_dev_name: "bare0" }],
    vsock: { guest_cid: 3, uds_path: `${BARE}/vsock` },
    entropy: {},
  };
}

async function residentMiB(host: Host, unit: string): Promise<number> {
  const status = await host.readFile(`/proc/${await mainPid(host, unit)}/status`);
  return Math.round((Number(/VmRSS:\s+(\d+)/.exec(status)?.[1] ?? NaN) / 1024) * 10) / 10;
}

/**
 * The processor time of a service's main process so far. Its work is single-threaded, so more cores don't reduce it.
 */
async function processorMs(host: Host, unit: string): Promise<number> {
  const stat = await host.readFile(`/proc/${await mainPid(host, unit)}/stat`);
  const [user = "", system = ""] = stat
    .slice(stat.lastIndexOf(")") + 2)
    .split(" ")
    .slice(11, 13);
  return ((Number(user) + Number(system)) / CLOCK_TICKS) * 1000;
}

async function measure(host: Host): Promise<boolean> {
  await ensureInstalledWithImage(host);
  await bangerOk(host, "ps");
  await Bun.sleep(10_000);
  const helperMiB = await residentMiB(host, SERVICES.helper);
  const daemonMiB = await residentMiB(host, SERVICES.daemon);
  host.note(`idle: helper ${helperMiB} MiB (bar ${HELPER_BAR_MIB}), daemon ${daemonMiB} MiB (bar ${DAEMON_BAR_MIB})`);

  const create = (name: string): string =>
    `banger vm create --no-start --name ${name} ${SMALL_VM.join(" ")} 2> /dev/null`;
  const one: number[] = [];
  for (let round = 0; round < rounds; round++) one.push(await time(host, "dev", create(`one-${round}`)));
  const names = Array.from({ length: CREATES }, (_, index) => `eight-${index}`);
  const usedSoFar = async (): Promise<readonly [helper: number, daemon: number]> => [
    await processorMs(host, SERVICES.helper),
    await processorMs(host, SERVICES.daemon),
  ];
  const [helperBefore, daemonBefore] = await usedSoFar();
  const eight = await time(
    host,
    "dev",
    `pids=""\n${names.map((name) => `${create(name)} & pids="$pids $!"`).join("\n")}\nfor pid in $pids; do wait "$pid"; done`,
  );
  const [helperAfter, daemonAfter] = await usedSoFar();
  const processor = { helperMs: helperAfter - helperBefore, daemonMs: daemonAfter - daemonBefore };
  const cores = Number((await host.ok(["nproc"])).trim());
  host.note(`${CREATES} creates at once: ${eight} ms, one: ${median(one)} ms, on ${cores} cores`);
  host.note(`the daemon's share of processor time: ${processor.daemonMs} ms, the helper's: ${processor.helperMs} ms`);
  await bangerOk(host, "vm", "delete", ...names, ...one.map((_, round) => `one-${round}`));

  await bangerOk(host, "vm", "create", "--name", "bench", ...SMALL_VM);
  const vm = await showVm(host, "bench");
  const bootArgs = (await inGuest(host, "bench", "cat /proc/cmdline")).trim();
  const { oursMs: execMs, sshMs } = await timeExecs(host, vm);
  const execRatio = median(execMs) / median(sshMs);
  host.note(
    `/bin/true: ${median(execMs)} ms, ssh ${median(sshMs)} ms, ratio ${execRatio.toFixed(2)} (bar ${EXEC_BAR})`,
  );
  await bangerOk(host, "vm", "stop", "bench");
  const ours: number[] = [];
  const execs: number[] = [];
  const theirs: number[] = [];
  let lost = 0;
  while (theirs.length < rounds) {
    const round = theirs.length + 1;
    try {
      const { startMs, execMs } = await timeOurs(host);
      const bareMs = await timeBare(host, vm, bootArgs);
      host.note(`round ${round}: ${startMs} ms and exec ${execMs} ms, bare ${bareMs} ms`);
      ours.push(startMs);
      execs.push(execMs);
      theirs.push(bareMs);
    } catch (thrown) {
      // The emulator sometimes kills a guest, even a bare one; then the whole round is repeated, with a note.
      lost += 1;
      if (lost > LOST_ROUNDS_LIMIT) throw thrown;
      host.note(`round ${round} is repeated: ${thrown instanceof Error ? thrown.message : String(thrown)}`);
      await bangerOk(host, "vm", "kill", "bench").catch(() => undefined);
    }
  }
  await bangerOk(host, "vm", "delete", "bench");
  const startRatio = median(ours) / median(theirs);
  const withExec = median(ours.map((ms, round) => ms + (execs[round] ?? 0))) / median(theirs);
  console.log(
    JSON.stringify(
      {
        start: {
          oursMs: ours,
          bareMs: theirs,
          ratio: startRatio,
          thenExecMs: execs,
          ratioWithExec: withExec,
          bar: START_BAR,
        },
        exec: { oursMs: execMs, sshMs, ratio: execRatio, bar: EXEC_BAR },
        idleMiB: { helper: helperMiB, helperBar: HELPER_BAR_MIB, daemon: daemonMiB, daemonBar: DAEMON_BAR_MIB },
        creates: {
          eightMs: eight,
          oneMs: one,
          ratio: eight / median(one),
          cores,
          processor,
          // The estimate for eight with a core each: never less than the single thread that they all need.
          leastRatio: Math.max(processor.helperMs, processor.daemonMs) / median(one),
        },
        date: new Date().toISOString(),
      },
      null,
      2,
    ),
  );
  return withExec <= START_BAR && execRatio <= EXEC_BAR && helperMiB <= HELPER_BAR_MIB && daemonMiB <= DAEMON_BAR_MIB;
}

const abort = new AbortController();
for (const name of ["SIGINT", "SIGTERM"] as const) process.on(name, () => abort.abort(new Error("interrupted")));
const directory = await mkdtemp(join(tmpdir(), "bh-bench-"));
try {
  const note = (message: string): void => console.error(message);
  const image = await ensureHostImage(note, abort.signal);
  const payload = await makePayload(image, directory, true);
  const missing = Object.values(payload.missing).find((why) => why !== null);
  if (missing !== undefined && missing !== null) throw new Error(missing);
  await using host = await bootHost({ image, payloadPath: payload.imagePath, signal: abort.signal, note });
  process.exitCode = (await measure(host)) ? 0 : 1;
} finally {
  await rm(directory, { recursive: true, force: true });
}
