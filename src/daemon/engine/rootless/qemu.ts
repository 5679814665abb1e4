/**
 * The rootless engine: QEMU's `microvm` machine, as the user, sandboxed, in a session of its own so that it
 * outlives the daemon. Source: QEMU docs/system/i386/microvm.rst, qemu(1).
 */

import { closeSync, constants, existsSync, openSync } from "node:fs";
import { rm } from "node:fs/promises";
import { join } from "node:path";
import { BangerError } from "../../../shared/errors.ts";
import { agentLockPath, agentSocketPath, SERIAL_PORTS } from "../../../shared/agent/serial-port.ts";
import type { VmId } from "../../../shared/contract/schemas.ts";
import { toolEnvironment, toolPath } from "../../host/run-tool.ts";
import { bootArgs } from "../boot-args.ts";
import { findProcesses, identifyProcess, killProcess, signalProcess } from "../../host/processes.ts";
import { readTscKhz } from "../host-tsc.ts";
import { agentPortArgs, waitForAgentPorts } from "./agent-ports.ts";
import { askMonitor } from "./qmp.ts";
import type { LaunchedVmm, LaunchPlan, ProcessIdentity, Vmm } from "../vmm.ts";

export const QEMU = "qemu-system-x86_64";

/**
 * Emulated, an old CPU is the fast one: with `max` the guest picks vector code that is emulated instruction by
 * instruction (measured: 31 s against 24 s to the first command). AES and random numbers are worth having.
 */
const EMULATED_CPU = "Nehalem-v1,+aes,+pclmulqdq,+rdrand";

const MONITOR_TIMEOUT_MS = 5000;
const LAUNCH_TIMEOUT_MS = 30_000;
const LAUNCH_POLL_MS = 5;
const LAST_WORDS_MS = 500;

/** The word of QEMU's argv that names the VM; `find` looks for it in /proc. */
const marker = (id: VmId): string => `banger-${id}`;
const monitorPath = (runtimeDir: string): string => join(runtimeDir, "qmp.sock");
const pidPath = (runtimeDir: string): string => join(runtimeDir, "qemu.pid");

/** In QEMU's option lists a comma ends a value and a doubled one stands for itself. */
const escapeOption = (value: string): string => value.replaceAll(",", ",,");

/** QEMU's argv for a plan; `tscKhz` as {@link readTscKhz} tells it. Pure. */
export function qemuArgv(plan: LaunchPlan, tscKhz: number | null): readonly string[] {
  const { spec } = plan;
  const file = (path: string): string => escapeOption(path);
  return [
    QEMU,
    ...["-name", marker(plan.id)],
    // Without pit and pic an emulated guest finds no timer to calibrate by and hangs before its first message.
    // With x-option-roms=off only qboot starts the kernel: SeaBIOS, the firmware on Debian 13, hangs.
    ...["-M", "microvm,acpi=on,pit=on,pic=on,rtc=on,isa-serial=on,usb=off,pcie=off"],
    ...(plan.acceleration === "kvm"
      ? ["-accel", "kvm", "-cpu", "host"]
      : ["-accel", "tcg,thread=multi", "-cpu", EMULATED_CPU]),
    ...["-m", `${spec.memoryMiB}M`, "-smp", String(spec.vcpu)],
    ...["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"],
    ...["-kernel", plan.kernelPath],
    ...(plan.initrdPath === null ? [] : ["-initrd", plan.initrdPath]),
    ...[
      "-append",
      bootArgs({ ...plan, hasInitrd: plan.initrdPath !== null, tscKhz })
        .map(({ word }) => word)
        .join(" "),
    ],
    ...["-drive", `if=none,id=root,format=qcow2,discard=unmap,file=${file(plan.rootDiskPath)}`],
    ...["-device", "virtio-blk-device,drive=root"],
    ...["-drive", `if=none,id=work,format=raw,discard=unmap,detect-zeroes=unmap,file=${file(plan.workDiskPath)}`],
    ...["-device", "virtio-blk-device,drive=work"],
    ...["-drive", `if=none,id=identity,format=raw,readonly=on,file=${file(plan.identityDiskPath)}`],
    ...["-device", "virtio-blk-device,drive=identity"],
    // Port 0: the kernel picks a free one, so there is no moment between choosing and binding.
    ...["-netdev", `user,id=net,restrict=${spec.nat ? "off" : "on"},hostfwd=tcp:127.0.0.1:0-:22`],
    ...["-device", "virtio-net-device,netdev=net"],
    ...["-device", "virtio-rng-device"],
    ...agentPortArgs(plan.runtimeDir, escapeOption),
    // Appending, so that the daemon can cut the file while the guest writes to it.
    ...["-chardev", `file,id=serial,append=on,path=${file(plan.serialLogPath)}`, "-serial", "chardev:serial"],
    ...["-chardev", `socket,id=monitor,server=on,wait=off,path=${file(monitorPath(plan.runtimeDir))}`],
    ...["-mon", "chardev=monitor,mode=control"],
    ...["-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"],
    ...["-pidfile", pidPath(plan.runtimeDir)],
  ];
}

/** The host port of the forward to the guest's sshd, from the monitor's `info usernet`; null when it isn't there. */
export function parseSshPort(usernet: string): number | null {
  for (const line of usernet.split("\n")) {
    const fields = line.trim().split(/\s+/);
    if (fields[0]?.startsWith("TCP[HOST_FORWARD]") === true && fields[5] === "22") return Number(fields[3]);
  }
  return null;
}

async function find(id: VmId): Promise<readonly ProcessIdentity[]> {
  const name = marker(id);
  return await findProcesses((argv) => (argv[0] ?? "").endsWith(QEMU) && argv[1] === "-name" && argv[2] === name);
}

async function endpoint(
  _id: VmId,
  runtimeDir: string,
): Promise<{ readonly sshHost: string; readonly sshPort: number }> {
  const answer = await askMonitor(
    monitorPath(runtimeDir),
    { execute: "human-monitor-command", arguments: { "command-line": "info usernet" } },
    MONITOR_TIMEOUT_MS,
  );
  const sshPort = parseSshPort(String(answer));
  if (sshPort === null) throw new BangerError("VMM_FAILED", "QEMU reports no forward to the guest's port 22");
  return { sshHost: "127.0.0.1", sshPort };
}

async function launch(plan: LaunchPlan, signal: AbortSignal): Promise<LaunchedVmm> {
  const monitor = monitorPath(plan.runtimeDir);
  const [program, ...argv] = qemuArgv(plan, await readTscKhz());
  const path = Bun.which(program ?? QEMU, { PATH: toolPath() });
  if (path === null) throw new BangerError("TOOL_MISSING", `${QEMU} is not installed`, { details: { program: QEMU } });
  signal.throwIfAborted();
  const log = openSync(
    plan.vmmLogPath,
    constants.O_WRONLY | constants.O_CREAT | constants.O_TRUNC | constants.O_APPEND,
    0o600,
  );
  // Not -daemonize: it forks after the sandbox forbade that (SIGSYS), and it widens the umask to 027.
  const child = spawnDetached([path, ...argv], log);
  const deadline = Date.now() + LAUNCH_TIMEOUT_MS;
  const hasEnded = (): boolean => child.exitCode !== null || child.signalCode !== null;
  const refuseEnded = async (): Promise<never> => {
    const said = (await Bun.file(plan.vmmLogPath).text()).trim().split("\n").slice(-4).join("; ");
    throw new BangerError(
      "VMM_FAILED",
      `QEMU did not start (${child.signalCode ?? `status ${child.exitCode}`}): ${said}`,
    );
  };
  for (;;) {
    if (hasEnded()) await refuseEnded();
    // The pid file is written when everything is set up, right before the guest's first instruction.
    if (existsSync(pidPath(plan.runtimeDir)) && existsSync(monitor)) break;
    if (signal.aborted || Date.now() > deadline) {
      child.kill("SIGKILL");
      await child.exited;
      signal.throwIfAborted();
      throw new BangerError("VMM_FAILED", `QEMU did not start within ${LAUNCH_TIMEOUT_MS / 1000} s`);
    }
    await Bun.sleep(LAUNCH_POLL_MS);
  }
  try {
    const process = await identifyProcess(child.pid);
    if (process === null) return await refuseEnded();
    for (;;) {
      try {
        return { process, ...(await endpoint(plan.id, plan.runtimeDir)) };
      } catch (thrown) {
        // The socket has its name before it listens.
        const isEarly = thrown instanceof BangerError && thrown.details?.["errno"] === "ECONNREFUSED";
        if (!isEarly || hasEnded() || signal.aborted || Date.now() > deadline) throw thrown;
        await Bun.sleep(LAUNCH_POLL_MS);
      }
    }
  } catch (thrown) {
    // A kernel it can't load ends QEMU after the pid file: its own words say more than a broken monitor.
    await Promise.race([child.exited, Bun.sleep(LAST_WORDS_MS)]);
    if (hasEnded()) await refuseEnded();
    throw thrown;
  }
}

/** A session of its own, no terminal, a clean environment, and nothing of the daemon's open but the log. */
function spawnDetached(argv: string[], log: number): Bun.Subprocess {
  try {
    const child = Bun.spawn(argv, {
      stdin: "ignore",
      stdout: log,
      stderr: log,
      env: toolEnvironment(),
      detached: true,
    });
    child.unref();
    return child;
  } finally {
    closeSync(log);
  }
}

async function signal(id: VmId, _runtimeDir: string, name: NodeJS.Signals): Promise<boolean> {
  const processes = await find(id);
  await Promise.all(processes.map(async (identity) => await signalProcess(identity, name)));
  return processes.length > 0;
}

async function powerDown(_id: VmId, runtimeDir: string): Promise<boolean> {
  if (!existsSync(monitorPath(runtimeDir))) return false;
  try {
    await askMonitor(monitorPath(runtimeDir), { execute: "system_powerdown" }, MONITOR_TIMEOUT_MS);
    return true;
  } catch (thrown) {
    if (thrown instanceof BangerError && thrown.code === "VMM_FAILED") return false;
    throw thrown;
  }
}

async function destroy(id: VmId, runtimeDir: string): Promise<void> {
  // Until none is listed: a launch under way may start one after the first look.
  for (let left = await find(id); left.length > 0; left = await find(id)) await Promise.all(left.map(killProcess));
  const ports = SERIAL_PORTS.flatMap((port) => [agentSocketPath(runtimeDir, port), agentLockPath(runtimeDir, port)]);
  const files = [monitorPath(runtimeDir), pidPath(runtimeDir), ...ports];
  await Promise.all(files.map(async (path) => await rm(path, { force: true })));
}

export interface QemuVmm extends Vmm {
  /** Starts the VMM in a session of its own, so that it outlives the daemon. Raises VMM_FAILED. */
  launch(plan: LaunchPlan, signal: AbortSignal): Promise<LaunchedVmm>;
  /** The ssh endpoint, asked of the running monitor. Raises VMM_FAILED. */
  endpoint(id: VmId, runtimeDir: string): Promise<{ readonly sshHost: string; readonly sshPort: number }>;
}

export function createQemuVmm(): QemuVmm {
  return {
    launch,
    find,
    endpoint,
    signal,
    powerDown,
    waitForAgentPorts: async (runtimeDir, options) => await waitForAgentPorts(monitorPath(runtimeDir), options),
    destroy,
  };
}
