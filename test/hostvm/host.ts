/** A running test host: boots from a throw-away overlay, is driven over ssh, and never outlives this process. */

import { existsSync } from "node:fs";
import { copyFile, mkdtemp, readFile, rm } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { runTool } from "../../src/daemon/host/run-tool.ts";
import { detectAcceleration } from "../../src/daemon/engine/acceleration.ts";
import type { HostImage } from "./image.ts";

const BOOT_TIMEOUT_MS = 240_000;
/** An attempt at a forward whose host isn't up yet can hang far beyond ssh's own ConnectTimeout. */
const SSH_ATTEMPT_TIMEOUT_MS = 20_000;
const COMMAND_TIMEOUT_MS = 120_000;
const POLL_MS = 200;
const PANIC = /Kernel panic[^\n]*|BUG: [^\n]*|Unable to mount root[^\n]*/;

/**
 * The emulator has crashed the host's kernel or a guest of it. Code under test never runs in a kernel, so it can't be
 * the cause. Seen when the emulator mixes up the registers of a nested guest and its host (endless page faults in
 * KVM_RUN), and when a guest gets stuck ({@link findStuckGuest}) or ends by a triple fault.
 */
export class HostCrashed extends Error {
  override readonly name = "HostCrashed";
}

export type HostUser = "root" | "dev" | "other";

export interface CommandOptions {
  readonly user?: HostUser;
  /** Default 120 s; after that the command's connection is closed and the call fails. */
  readonly timeoutMs?: number;
  readonly stdin?: Uint8Array | string | Blob;
}

export interface CommandResult {
  readonly status: number;
  readonly stdout: string;
  readonly stdoutBytes: Uint8Array;
  readonly stderr: string;
}

/** What scenarios receive. Shell text in it is this suite's own, never a value from elsewhere. */
export interface Host {
  /** Runs an argument vector and returns its status. Fails if the host has crashed or time is up. */
  run(argv: readonly string[], options?: CommandOptions): Promise<CommandResult>;
  /** Like run, but fails with all output on a status other than 0. Returns stdout. */
  ok(argv: readonly string[], options?: CommandOptions): Promise<string>;
  /**
   * Runs bash text with `args` as $1…, stopping at the first failure. Fails on a status other than 0. Returns stdout.
   */
  sh(script: string, args?: readonly string[], options?: CommandOptions): Promise<string>;
  /** Polls a bash condition until it is true. Fails with `what` after `timeoutMs`. */
  until(what: string, condition: string, timeoutMs: number, options?: CommandOptions): Promise<void>;
  writeFile(path: string, contents: string | Uint8Array, mode: number): Promise<void>;
  readFile(path: string): Promise<string>;
  /** Reboots the machine cleanly and waits until it answers again. */
  reboot(): Promise<void>;
  /** Cuts the power and boots again from the disk. */
  powerCycle(): Promise<void>;
  /** The output of the machine's serial console. */
  console(): Promise<string>;
  note(message: string): void;
  /** The command that opens a shell in it. */
  readonly sshCommand: string;
}

export interface BootOptions {
  readonly image: HostImage;
  /** A read-only ext4 image that appears as /payload. */
  readonly payloadPath: string;
  readonly note: (message: string) => void;
  readonly signal: AbortSignal;
}

/**
 * AMD's virtualization. With `erms`, kernels and libraries copy and clear by single bytes instead of words, and each is
 * emulated (measured: clearing 320 MiB took 2.9 s instead of 1.3 s, and 25 s instead of 7 s where an earlier guest's
 * code was).
 */
const EMULATED_CPU = "max,+svm,+npt,-erms";

/**
 * Traces entries into a guest for a fifth of a second. A stuck guest has thousands, all at one instruction and all
 * exiting at once.
 */
const STUCK_ENTRIES = 500;
const LOOK_FOR_STUCK = `
  events=/sys/kernel/tracing/events/kvm/kvm_entry/enable
  [ -e $events ] && pgrep -x firecracker > /dev/null || exit 0
  trap 'echo 0 > $events; echo > /sys/kernel/tracing/trace' EXIT
  echo 1 > $events; sleep 0.2; echo 0 > $events
  sed -nE 's/.*-([0-9]+) .*(rip 0x[0-9a-f]+).*immediate exit.*/thread \\1 at \\2/p' /sys/kernel/tracing/trace \
    | sort | uniq -c | awk '$1 > ${STUCK_ENTRIES} { print }'
`;

/**
 * Finds a guest that the emulator enters at the same instruction and leaves at once, forever, by KVM's own trace; null
 * if there is none. Its VMM is busy but answers nothing, until the host's kernel dies of it minutes later.
 */
export async function findStuckGuest(host: Host): Promise<string | null> {
  const { stdout } = await host.run(["bash", "--norc", "-c", LOOK_FOR_STUCK]);
  return stdout.trim() === "" ? null : stdout.trim();
}

/** What Firecracker logs when a guest ends by a triple fault; the second is for releases before 1.13. */
const TRIPLE_FAULT = ["vcpu run: Shutdown", "KVM_EXIT_SHUTDOWN"];
const LOOK_FOR_TRIPLE_FAULT = `
  cd /var/lib/banger && grep -ls ${TRIPLE_FAULT.map((words) => `-e '${words}'`).join(" ")} \
    owner/vms/*/vmm.log jail/firecracker/*/root/io/firecracker.log || true
`;

/**
 * Tells what the emulator did to a guest of a failed scenario, from the scenario's message and the host's logs; null if
 * nothing points to the emulator. A triple fault counts: guests shut down in other ways, and one caused by banger would
 * happen again.
 */
export async function findLostGuest(host: Host, said: string): Promise<string | null> {
  // A failed create removes its VM's log, and quotes it.
  const quoted = TRIPLE_FAULT.find((words) => said.includes(words));
  if (quoted !== undefined) return `a guest ended by a triple fault: ${quoted}`;
  const stuck = await findStuckGuest(host);
  if (stuck !== null) return `the emulator is stuck in a guest: ${stuck}`;
  const { stdout } = await host.run(["bash", "--norc", "-c", LOOK_FOR_TRIPLE_FAULT]);
  return stdout.trim() === "" ? null : `a guest ended by a triple fault: ${stdout.trim()}`;
}

/** Makes QEMU's command line. Pure. */
export function hostArgv(options: {
  readonly image: HostImage;
  readonly payloadPath: string;
  readonly overlayPath: string;
  readonly consolePath: string;
  readonly sshPort: number;
  readonly acceleration: "kvm" | "tcg";
}): readonly string[] {
  const { image } = options;
  return [
    "qemu-system-x86_64",
    ...["-nodefaults", "-no-user-config", "-display", "none", "-M", "q35"],
    ...(options.acceleration === "kvm"
      ? ["-accel", "kvm", "-cpu", "host"]
      : ["-accel", "tcg,thread=multi", "-cpu", EMULATED_CPU]),
    ...["-smp", "2", "-m", "6G"],
    ...["-kernel", image.kernelPath, "-initrd", image.initrdPath],
    ...["-append", "root=/dev/vda console=ttyS0 quiet loglevel=4 net.ifnames=0 mitigations=off audit=0 panic=0"],
    ...["-drive", `if=none,id=disk,format=qcow2,cache=unsafe,discard=unmap,file=${options.overlayPath}`],
    ...["-device", "virtio-blk-pci,drive=disk"],
    ...["-drive", `if=none,id=payload,format=raw,readonly=on,file=${options.payloadPath}`],
    ...["-device", "virtio-blk-pci,drive=payload"],
    // Nothing outside is reachable. A scenario that needs an outside network makes one, in a network namespace.
    ...["-netdev", `user,id=net,restrict=on,hostfwd=tcp:127.0.0.1:${options.sshPort}-10.0.2.15:22`],
    ...["-device", "virtio-net-pci,netdev=net,romfile="],
    ...["-device", "virtio-rng-pci"],
    ...["-chardev", `file,id=serial,path=${options.consolePath}`, "-serial", "chardev:serial"],
  ];
}

/** Quotes one word for a POSIX shell. */
export function quote(word: string): string {
  return /^[A-Za-z0-9_./:=@%+,-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`;
}

/**
 * Boots a host and waits until root can log in. Release it with `await using`.
 * @throws Error if the kernel panics, QEMU exits, or the host isn't up after four minutes
 */
export async function bootHost(options: BootOptions): Promise<Host & AsyncDisposable> {
  const host = new QemuHost(options, await mkdtemp(join(tmpdir(), "bh-")));
  try {
    await host.boot();
    return host;
  } catch (thrown) {
    await host[Symbol.asyncDispose]();
    throw thrown;
  }
}

class QemuHost implements Host, AsyncDisposable {
  readonly #options: BootOptions;
  readonly #dir: string;
  readonly #masters = new Map<HostUser, Promise<string>>();
  #children: Bun.Subprocess[] = [];
  #qemu: Bun.Subprocess<"ignore", "ignore", "pipe"> | null = null;
  #port = 0;
  #boots = 0;

  constructor(options: BootOptions, dir: string) {
    this.#options = options;
    this.#dir = dir;
  }

  get #overlay(): string {
    return join(this.#dir, "disk.qcow2");
  }

  get #consolePath(): string {
    return join(this.#dir, `console-${this.#boots}.log`);
  }

  async boot(): Promise<void> {
    const { image, payloadPath, note, signal } = this.#options;
    const began = performance.now();
    if (!existsSync(this.#overlay)) {
      await runTool(["qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", image.diskPath, this.#overlay], {
        timeoutMs: 30_000,
        signal,
      });
    }
    // ssh rejects a key that others can read.
    await copyFile(image.sshKeyPath, join(this.#dir, "id"));
    this.#boots++;
    this.#port = await freePort();
    const argv = hostArgv({
      image,
      payloadPath,
      overlayPath: this.#overlay,
      consolePath: this.#consolePath,
      sshPort: this.#port,
      acceleration: detectAcceleration().kind,
    });
    // Ends with this process, however that ends. In its own process group, so that ctrl-c reaches only this process.
    this.#qemu = Bun.spawn(["setpriv", "--pdeathsig", "KILL", ...argv], {
      stdin: "ignore",
      stdout: "ignore",
      stderr: "pipe",
      detached: true,
    });
    await this.#connect("root", BOOT_TIMEOUT_MS);
    await this.#prepare();
    note(`host booted in ${((performance.now() - began) / 1000).toFixed(0)} s`);
  }

  /** Fails if the machine can no longer answer. */
  async #checkAlive(): Promise<void> {
    const text = await this.console();
    const panic = PANIC.exec(text);
    if (panic !== null)
      throw new HostCrashed(`the host crashed: ${panic[0]}\n${text.split("\n").slice(-30).join("\n")}`);
    const qemu = this.#qemu;
    if (qemu === null) throw new Error("the host is off");
    if (qemu.exitCode !== null || qemu.signalCode !== null) {
      throw new Error(
        `QEMU ended with ${qemu.exitCode ?? qemu.signalCode}: ${await new Response(qemu.stderr).text()}\n${text.split("\n").slice(-15).join("\n")}`,
      );
    }
  }

  /** Opens a connection that later commands share. Resolves to its control socket. */
  async #connect(user: HostUser, timeoutMs: number): Promise<string> {
    const known = this.#masters.get(user);
    if (known !== undefined) return await known;
    const opening = this.#open(user, timeoutMs);
    this.#masters.set(user, opening);
    opening.catch(() => this.#masters.delete(user));
    return await opening;
  }

  async #open(user: HostUser, timeoutMs: number): Promise<string> {
    const { image, signal } = this.#options;
    const deadline = performance.now() + timeoutMs;
    for (let attempt = 0; performance.now() < deadline; attempt++) {
      signal.throwIfAborted();
      await this.#checkAlive();
      const control = join(this.#dir, `c-${user}-${this.#boots}-${attempt}`);
      const master = Bun.spawn(
        [
          ...["setpriv", "--pdeathsig", "KILL", "ssh", "-F", "none", "-N", "-M", "-S", control],
          ...["-i", join(this.#dir, "id"), "-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes"],
          ...["-o", `UserKnownHostsFile=${image.knownHostsPath}`, "-o", "HostKeyAlias=hostvm"],
          ...["-o", "StrictHostKeyChecking=yes", "-o", "ConnectTimeout=15", "-o", "LogLevel=ERROR"],
          ...["-o", "ServerAliveInterval=15", "-o", "ServerAliveCountMax=8"],
          ...["-p", String(this.#port), `${user}@127.0.0.1`],
        ],
        { stdin: "ignore", stdout: "ignore", stderr: "ignore", detached: true },
      );
      const attemptEnds = performance.now() + SSH_ATTEMPT_TIMEOUT_MS;
      while (performance.now() < attemptEnds && master.exitCode === null && master.signalCode === null) {
        if (existsSync(control)) {
          this.#children.push(master);
          return control;
        }
        await this.#checkAlive();
        signal.throwIfAborted();
        await Bun.sleep(POLL_MS);
      }
      master.kill("SIGKILL");
      await master.exited;
      await Bun.sleep(POLL_MS);
    }
    throw new Error(
      `${user} can't log in at the host after ${timeoutMs / 1000} s\n${(await this.console()).slice(-3000)}`,
    );
  }

  async run(argv: readonly string[], options: CommandOptions = {}): Promise<CommandResult> {
    const user = options.user ?? "root";
    const timeoutMs = options.timeoutMs ?? COMMAND_TIMEOUT_MS;
    const control = await this.#connect(user, 60_000);
    const command = argv.map(quote).join(" ");
    const child = Bun.spawn(["ssh", "-F", "none", "-S", control, "-o", "LogLevel=ERROR", "-T", "hostvm", command], {
      stdin:
        options.stdin === undefined
          ? "ignore"
          : typeof options.stdin === "string"
            ? Buffer.from(options.stdin)
            : options.stdin,
      stdout: "pipe",
      stderr: "pipe",
    });
    let late = false;
    const end = (): void => {
      child.kill("SIGKILL");
    };
    const timer = setTimeout(() => {
      late = true;
      end();
    }, timeoutMs);
    this.#options.signal.addEventListener("abort", end, { once: true });
    try {
      const [bytes, stderr, status] = await Promise.all([
        new Response(child.stdout).bytes(),
        new Response(child.stderr).text(),
        child.exited,
      ]);
      this.#options.signal.throwIfAborted();
      const stdout = new TextDecoder().decode(bytes);
      if (late) {
        await this.#checkAlive();
        throw new Error(`not within ${timeoutMs / 1000} s: ${command.slice(0, 300)}\n${stdout}${stderr}`);
      }
      if (status === 255) await this.#checkAlive();
      return { status, stdout, stdoutBytes: bytes, stderr };
    } finally {
      clearTimeout(timer);
      this.#options.signal.removeEventListener("abort", end);
    }
  }

  async ok(argv: readonly string[], options: CommandOptions = {}): Promise<string> {
    const result = await this.run(argv, options);
    if (result.status !== 0) {
      throw new Error(
        `status ${result.status}: ${argv.map(quote).join(" ").slice(0, 2000)}\n${result.stdout.slice(-4000)}${result.stderr.slice(-4000)}`,
      );
    }
    return result.stdout;
  }

  async sh(script: string, args: readonly string[] = [], options: CommandOptions = {}): Promise<string> {
    return await this.ok(["bash", "--norc", "-euo", "pipefail", "-c", script, "bash", ...args], options);
  }

  async until(what: string, condition: string, timeoutMs: number, options: CommandOptions = {}): Promise<void> {
    const deadline = performance.now() + timeoutMs;
    let last: CommandResult | null = null;
    do {
      last = await this.run(["bash", "--norc", "-c", condition], options);
      if (last.status === 0) return;
      await Bun.sleep(POLL_MS);
    } while (performance.now() < deadline);
    throw new Error(`not within ${timeoutMs / 1000} s: ${what}\n${last.stdout}${last.stderr}`);
  }

  async writeFile(path: string, contents: string | Uint8Array, mode: number): Promise<void> {
    await this.ok(["sh", "-c", 'umask 077; cat > "$1" && chmod "$2" "$1"', "sh", path, mode.toString(8)], {
      stdin: contents,
    });
  }

  async readFile(path: string): Promise<string> {
    return await this.ok(["cat", "--", path]);
  }

  async reboot(): Promise<void> {
    const bootId = await this.readFile("/proc/sys/kernel/random/boot_id");
    await this.run(["systemctl", "reboot"]);
    await this.#forgetConnections();
    await this.#connect("root", BOOT_TIMEOUT_MS);
    const deadline = performance.now() + BOOT_TIMEOUT_MS;
    while ((await this.run(["cat", "/proc/sys/kernel/random/boot_id"])).stdout.trim() === bootId.trim()) {
      if (performance.now() > deadline) throw new Error("the host does not reboot");
      await this.#forgetConnections();
      await Bun.sleep(1000);
    }
    await this.#prepare();
  }

  async powerCycle(): Promise<void> {
    await this.ok(["sync"]);
    await this.#powerOff();
    await this.boot();
  }

  async #prepare(): Promise<void> {
    await this.sh(`mkdir -p /payload
      mount -o ro /dev/vdb /payload
      modprobe kvm-amd || modprobe kvm-intel
      modprobe -a dm-mod dm-snapshot loop tun vhost_vsock
      timeout 60 systemctl is-system-running --wait || true`);
  }

  async console(): Promise<string> {
    return existsSync(this.#consolePath) ? await readFile(this.#consolePath, "utf8") : "";
  }

  note(message: string): void {
    this.#options.note(message);
  }

  get sshCommand(): string {
    return `ssh -F none -S ${join(this.#dir, `c-root-${this.#boots}-*`)} hostvm`;
  }

  async #forgetConnections(): Promise<void> {
    this.#masters.clear();
    for (const child of this.#children) child.kill("SIGKILL");
    await Promise.all(this.#children.map((child) => child.exited));
    this.#children = [];
  }

  async #powerOff(): Promise<void> {
    this.#qemu?.kill("SIGKILL");
    await this.#qemu?.exited;
    this.#qemu = null;
    await this.#forgetConnections();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#powerOff();
    await rm(this.#dir, { recursive: true, force: true });
  }
}

async function freePort(): Promise<number> {
  return await new Promise((resolve, reject) => {
    const server = createServer();
    server.once("error", reject);
    server.listen(0, "127.0.0.1", () => {
      const address = server.address();
      const port = typeof address === "object" && address !== null ? address.port : 0;
      server.close(() => resolve(port));
    });
  });
}
