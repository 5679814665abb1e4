/** A guest, reached by OpenSSH over one shared control connection per VM that outlives the daemon. */

import { closeSync, constants, existsSync, openSync } from "node:fs";
import { rm } from "node:fs/promises";
import { join } from "node:path";
import type { VmId } from "../../../shared/contract/schemas.ts";
import { BangerError, isErrno } from "../../../shared/errors.ts";
import { isListening } from "../../../shared/places/listening.ts";
import type { Paths } from "../../../shared/places/paths.ts";
import { type ToolResult, toolEnvironment, tryTool } from "../../host/run-tool.ts";
import type { GuestAddress } from "../address.ts";
import type { GuestConnection } from "../connection.ts";
import { answersSsh } from "./banner.ts";
import { commonOptions, controlPath, destination, options, sshCommand } from "./options.ts";

export interface SshConnection extends GuestConnection {
  /** Sends a control command (`-O ...`) to the open connection. */
  control(address: GuestAddress, command: readonly string[], timeoutMs: number): Promise<ToolResult>;
}

const controlLogPath = (runtimeDir: string): string => join(runtimeDir, "ssh.log");

export function createSshConnection(paths: Paths): SshConnection {
  const control: SshConnection["control"] = async (address, command, timeoutMs) =>
    await tryTool(
      ["ssh", ...commonOptions(paths, address), ...options("LogLevel=ERROR"), ...command, ...destination(address)],
      { timeoutMs },
    );

  // One opening per VM at a time: of two at once, the second would take the socket's path from under the first.
  const opening = new Map<VmId, Promise<void>>();

  return {
    answers: answersSsh,
    open: async (address, timeoutMs, signal) => {
      for (let other = opening.get(address.id); other !== undefined; other = opening.get(address.id))
        await other.catch(() => undefined);
      const turn = openMaster(paths, address, timeoutMs, signal).finally(() => opening.delete(address.id));
      opening.set(address.id, turn);
      await turn;
    },
    control,
    runLine: async (address, line, timeoutMs, signal) =>
      await tryTool([...sshCommand(paths, address), line], {
        timeoutMs,
        ...(signal === undefined ? {} : { signal }),
      }),
    close: async ({ id, runtimeDir }) => {
      const path = controlPath(runtimeDir);
      if (await isListening(path))
        await control({ id, runtimeDir, sshHost: "127.0.0.1", sshPort: 1, hasAgent: false }, ["-O", "exit"], 5000);
      await rm(path, { force: true });
    },
  };
}

/** Starts the process that holds the connection, and waits until it does. @throws BangerError GUEST_NOT_READY */
async function openMaster(paths: Paths, address: GuestAddress, timeoutMs: number, signal?: AbortSignal): Promise<void> {
  const path = controlPath(address.runtimeDir);
  if (await isListening(path)) return;
  await rm(path, { force: true });
  const logPath = controlLogPath(address.runtimeDir);
  const master = startMaster(paths, address, timeoutMs, logPath);
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
    throw new BangerError("GUEST_NOT_READY", `the guest's sshd refused banger: ${why}`, {
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

function startMaster(paths: Paths, address: GuestAddress, timeoutMs: number, logPath: string): Bun.Subprocess {
  // A file, not a pipe: it outlives the daemon, and nobody has to read it for ssh to go on. Loud only when it ends.
  const log = openSync(logPath, constants.O_WRONLY | constants.O_CREAT | constants.O_TRUNC | constants.O_APPEND, 0o600);
  // A session of its own and no terminal: it must survive the daemon. ssh's own -f would fork a process nobody can wait for.
  const master = Bun.spawn(
    [
      "ssh",
      ...commonOptions(paths, address),
      ...["-M", "-N", ...options("LogLevel=FATAL", "ControlPersist=no")],
      ...options(`ConnectTimeout=${Math.max(1, Math.ceil(timeoutMs / 1000))}`),
      ...options("ServerAliveInterval=15", "ServerAliveCountMax=8"),
      ...destination(address, timeoutMs),
    ],
    { stdin: "ignore", stdout: "ignore", stderr: log, env: toolEnvironment(), detached: true },
  );
  closeSync(log);
  master.unref();
  return master;
}
