/** The guest, reached by OpenSSH over one shared control connection per VM that outlives the daemon. */

import { closeSync, constants, existsSync, openSync } from "node:fs";
import { rm } from "node:fs/promises";
import { connect, type Socket } from "node:net";
import { join } from "node:path";
import { BangerError, isErrno } from "../../../shared/errors.ts";
import { connectVsock } from "../../../shared/jail.ts";
import { isListening } from "../../../shared/places/listening.ts";
import type { Paths } from "../../../shared/places/paths.ts";
import { quote } from "../../../shared/remote-command.ts";
import type { VmId } from "../../../shared/contract/schemas.ts";
import { selfArgv } from "../../../shared/places/self.ts";
import { type ToolResult, toolEnvironment, tryTool } from "../../host/run-tool.ts";
import { checkHostPort, LOOPBACK } from "../host-port.ts";
import { hostKeyAlias, knownHostsPath, userKeyPath } from "./keys.ts";
import { type Listener, parseListeners } from "../ports.ts";

/** Where one VM's guest is. */
export interface GuestAddress {
  readonly id: VmId;
  readonly sshHost: string;
  readonly sshPort: number;
  /** The VM's runtime directory; the control socket is in it. */
  readonly runtimeDir: string;
  /** The VM's jail, where the guest may be reached over vsock: tried first, since it works with a broken network. */
  readonly jailRoot?: string;
}

/** How long a connection of its own waits for a guest that should be there. */
const PROXY_WAIT_MS = 5000;

/** The guest's port for ssh, on TCP by convention and on vsock by banger's unit. */
const SSH_PORT = 22;

export interface Guest {
  /** True when sshd's banner comes within `timeoutMs`. */
  answers(address: GuestAddress, timeoutMs: number, signal?: AbortSignal): Promise<boolean>;
  /** Opens the control connection if it isn't open. @throws BangerError GUEST_NOT_READY */
  open(address: GuestAddress, timeoutMs: number, signal?: AbortSignal): Promise<void>;
  /** ssh, every option, the destination; a remote command may be appended. */
  sshArgv(address: GuestAddress): readonly string[];
  /** Runs a command (each argument quoted) and returns what it said, whatever its status. */
  run(address: GuestAddress, argv: readonly string[], timeoutMs: number, signal?: AbortSignal): Promise<ToolResult>;
  /** Asks the guest to sync and end, by the word that ends its VMM. True when it said it would. */
  shutDown(address: GuestAddress, word: "poweroff" | "reboot", timeoutMs: number): Promise<boolean>;
  /** Ends the control connection, and with it the forwards on it. */
  close(address: Pick<GuestAddress, "id" | "runtimeDir">): Promise<void>;
  listListeners(address: GuestAddress): Promise<readonly Listener[]>;
  /** @throws BangerError IN_USE, NO_ACCESS, FAILED; nothing listens then */
  addForward(address: GuestAddress, hostPort: number, guestPort: number): Promise<void>;
  removeForward(address: GuestAddress, hostPort: number, guestPort: number): Promise<void>;
  /** Bytes counted by the guest's interfaces other than loopback; null when it doesn't answer. */
  readCounters(address: GuestAddress): Promise<{ readonly rxBytes: number; readonly txBytes: number } | null>;
}

const controlPath = (runtimeDir: string): string => join(runtimeDir, "ssh.sock");
const controlLogPath = (runtimeDir: string): string => join(runtimeDir, "ssh.log");

/** A path as a value of `ssh -o`: quoted for ssh_config(5), and `%` is its token character. */
const sshPath = (path: string): string => `"${path.replaceAll("%", "%%")}"`;

/** Whether sshd speaks first. QEMU's forward accepts before the guest listens, so a connection alone proves nothing. */
async function readBanner(socket: Socket, timeoutMs: number, signal?: AbortSignal): Promise<boolean> {
  return await new Promise((resolve) => {
    const finish = (answer: boolean): void => {
      clearTimeout(timer);
      signal?.removeEventListener("abort", giveUp);
      socket.destroy();
      resolve(answer);
    };
    const giveUp = (): void => finish(false);
    const timer = setTimeout(giveUp, timeoutMs);
    signal?.addEventListener("abort", giveUp);
    socket.once("data", (chunk) => finish(chunk.toString("latin1").startsWith("SSH-2.0")));
    socket.once("error", () => finish(false));
    socket.once("close", () => finish(false));
    socket.resume();
  });
}

/** Whether the guest takes a connection. That is proof enough, and a banner would cost it a process more. */
async function answersOnVsock(jailRoot: string, timeoutMs: number): Promise<boolean> {
  try {
    (await connectVsock(jailRoot, SSH_PORT, timeoutMs)).destroy();
    return true;
  } catch (thrown) {
    if (thrown instanceof BangerError && thrown.code === "GUEST_NOT_READY") return false;
    throw thrown;
  }
}

/** banger itself as ssh's way to the guest: vsock where that answers, else the address. `%` is ssh's token character. */
function proxyCommand(jailRoot: string, { sshHost, sshPort }: GuestAddress, waitMs: number): string {
  const words = [
    ...[...selfArgv(), "internal", "guest-connect"],
    ...[jailRoot, sshHost, String(sshPort), String(Math.max(0, Math.round(waitMs)))],
  ];
  return words.map((word) => quote(word).replaceAll("%", "%%")).join(" ");
}

/** ssh's words for a forward from this host's loopback to the guest's. */
const forwardWords = (host: string, hostPort: number, guestPort: number): readonly string[] => [
  "-L",
  `${host.includes(":") ? `[${host}]` : host}:${hostPort}:127.0.0.1:${guestPort}`,
];

export function createGuest(paths: Paths): Guest {
  const commonOptions = (address: GuestAddress): readonly string[] => [
    ...[
      "-F",
      "/dev/null",
      "-o",
      `IdentityFile=${sshPath(userKeyPath(paths))}`,
      "-o",
      "IdentitiesOnly=yes",
      "-o",
      "IdentityAgent=none",
    ],
    ...[
      "-o",
      "BatchMode=yes",
      "-o",
      "StrictHostKeyChecking=yes",
      "-o",
      `UserKnownHostsFile=${sshPath(knownHostsPath(paths))}`,
    ],
    ...[
      "-o",
      "GlobalKnownHostsFile=/dev/null",
      "-o",
      `HostKeyAlias=${hostKeyAlias(address.id)}`,
      "-o",
      "CheckHostIP=no",
    ],
    ...["-o", `ControlPath=${sshPath(controlPath(address.runtimeDir))}`],
    // Real CPUs have instructions for AES; emulated ones are no slower with it (measured: within a fifth of each other).
    ...["-o", "Ciphers=aes128-gcm@openssh.com,chacha20-poly1305@openssh.com"],
  ];
  const destination = (address: GuestAddress, waitMs = PROXY_WAIT_MS): readonly string[] => [
    ...(address.jailRoot === undefined
      ? []
      : ["-o", `ProxyCommand=${proxyCommand(address.jailRoot, address, waitMs)}`, "-o", "ProxyUseFdpass=yes"]),
    "-p",
    String(address.sshPort),
    `root@${address.sshHost}`,
  ];

  const sshArgv = (address: GuestAddress): readonly string[] => [
    "ssh",
    ...commonOptions(address),
    ...["-o", "LogLevel=ERROR", "-o", "ControlMaster=no", "-o", "ConnectTimeout=10"],
    ...destination(address),
  ];

  const control = async (address: GuestAddress, command: readonly string[], timeoutMs: number): Promise<ToolResult> =>
    await tryTool(["ssh", ...commonOptions(address), "-o", "LogLevel=ERROR", ...command, ...destination(address)], {
      timeoutMs,
    });

  // One opening per VM at a time: of two at once, the second would take the socket's path from under the first.
  const opening = new Map<VmId, Promise<void>>();

  async function open(address: GuestAddress, timeoutMs: number, signal?: AbortSignal): Promise<void> {
    for (let other = opening.get(address.id); other !== undefined; other = opening.get(address.id))
      await other.catch(() => undefined);
    const turn = openOnce(address, timeoutMs, signal).finally(() => opening.delete(address.id));
    opening.set(address.id, turn);
    await turn;
  }

  async function openOnce(address: GuestAddress, timeoutMs: number, signal?: AbortSignal): Promise<void> {
    const path = controlPath(address.runtimeDir);
    if (await isListening(path)) return;
    await rm(path, { force: true });
    const logPath = controlLogPath(address.runtimeDir);
    // A file, not a pipe: it outlives the daemon, and nobody has to read it for ssh to go on. Loud only when it ends.
    const log = openSync(
      logPath,
      constants.O_WRONLY | constants.O_CREAT | constants.O_TRUNC | constants.O_APPEND,
      0o600,
    );
    // A session of its own and no terminal: it must survive the daemon. ssh's own -f would fork a process nobody can wait for.
    const master = Bun.spawn(
      [
        "ssh",
        ...commonOptions(address),
        ...[
          "-M",
          "-N",
          "-o",
          "LogLevel=FATAL",
          "-o",
          "ControlPersist=no",
          "-o",
          `ConnectTimeout=${Math.max(1, Math.ceil(timeoutMs / 1000))}`,
        ],
        ...["-o", "ServerAliveInterval=15", "-o", "ServerAliveCountMax=8"],
        ...destination(address, timeoutMs),
      ],
      { stdin: "ignore", stdout: "ignore", stderr: log, env: toolEnvironment(), detached: true },
    );
    closeSync(log);
    master.unref();
    const deadline = Date.now() + timeoutMs;
    // Its whole session: what it started to reach the guest must not go on waiting.
    const end = (): void => {
      try {
        process.kill(-master.pid, "SIGKILL");
      } catch (thrown) {
        if (!isErrno(thrown, "ESRCH")) throw thrown;
      }
    };
    const abandon = async (why: string): Promise<never> => {
      end();
      await rm(path, { force: true });
      throw new BangerError("GUEST_NOT_READY", `the guest's sshd did not let banger in: ${why}`, {
        hint: `banger vm logs ${address.id}`,
      });
    };
    for (;;) {
      if (master.exitCode !== null)
        await abandon((await Bun.file(logPath).text()).trim() || `ssh ended with ${master.exitCode}`);
      // A look at the name costs next to nothing, and the guest needs the processor.
      if (existsSync(path) && (await isListening(path))) return;
      if (signal?.aborted === true) {
        end();
        await rm(path, { force: true });
        signal.throwIfAborted();
      }
      if (Date.now() > deadline) await abandon(`no answer within ${timeoutMs} ms`);
      await Bun.sleep(20);
    }
  }

  async function runLine(
    address: GuestAddress,
    line: string,
    timeoutMs: number,
    signal?: AbortSignal,
  ): Promise<ToolResult> {
    return await tryTool([...sshArgv(address), line], { timeoutMs, ...(signal === undefined ? {} : { signal }) });
  }

  return {
    answers: async ({ sshHost, sshPort, jailRoot }, timeoutMs, signal) =>
      (jailRoot !== undefined && (await answersOnVsock(jailRoot, timeoutMs))) ||
      (await readBanner(connect({ host: sshHost, port: sshPort }), timeoutMs, signal)),
    open,
    sshArgv,
    run: async (address, argv, timeoutMs, signal) =>
      await runLine(address, argv.map(quote).join(" "), timeoutMs, signal),
    shutDown: async (address, word, timeoutMs) => {
      try {
        if (!(await isListening(controlPath(address.runtimeDir)))) await open(address, Math.min(timeoutMs, 2000));
        return (await runLine(address, `sync; systemctl ${word} --no-block || ${word}`, timeoutMs)).exitCode === 0;
      } catch (thrown) {
        if (thrown instanceof BangerError) return false;
        throw thrown;
      }
    },
    close: async ({ id, runtimeDir }) => {
      const path = controlPath(runtimeDir);
      if (await isListening(path)) {
        await control({ id, runtimeDir, sshHost: "127.0.0.1", sshPort: 1 }, ["-O", "exit"], 5000);
      }
      await rm(path, { force: true });
    },
    listListeners: async (address) => {
      const result = await runLine(address, "ss -Hltnp", 15_000);
      if (result.exitCode !== 0)
        throw new BangerError("GUEST_FAILED", `ss in the guest ended with ${result.exitCode}: ${result.stderr.trim()}`);
      return parseListeners(result.stdout);
    },
    addForward: async (address, hostPort, guestPort) => {
      const added: string[] = [];
      for (const host of await checkHostPort(hostPort)) {
        const words = forwardWords(host, hostPort, guestPort);
        const result = await control(address, ["-O", "forward", ...words], 10_000);
        if (result.exitCode === 0) {
          added.push(host);
          continue;
        }
        for (const each of added)
          await control(address, ["-O", "cancel", ...forwardWords(each, hostPort, guestPort)], 10_000);
        throw new BangerError("FAILED", `ssh can't forward ${host} port ${hostPort}: ${result.stderr.trim()}`, {
          hint: `banger vm ports ${address.id}`,
        });
      }
    },
    removeForward: async (address, hostPort, guestPort) => {
      for (const host of LOOPBACK)
        await control(address, ["-O", "cancel", ...forwardWords(host, hostPort, guestPort)], 10_000);
    },
    readCounters: async (address) => {
      const result = await runLine(address, "cat /proc/net/dev", 5000).catch(() => null);
      if (result === null || result.exitCode !== 0) return null;
      let rxBytes = 0;
      let txBytes = 0;
      for (const line of result.stdout.split("\n")) {
        const [name, numbers] = line.split(":");
        const fields = numbers?.trim().split(/\s+/).map(Number);
        if (fields === undefined || name?.trim() === "lo" || !fields.every(Number.isSafeInteger)) continue;
        rxBytes += fields[0] ?? 0;
        txBytes += fields[8] ?? 0;
      }
      return { rxBytes, txBytes };
    },
  };
}
