/** Whether a guest's sshd is up. */

import { connect, type Socket } from "node:net";
import { BangerError } from "../../../shared/errors.ts";
import { connectVsock } from "../../../shared/jail.ts";
import type { GuestAddress } from "../address.ts";

/** The guest's port for ssh on vsock, by banger's unit. */
const SSH_PORT = 22;

/** True when sshd answers within `timeoutMs`. */
export async function answersSsh(
  { sshHost, sshPort, jailRoot }: GuestAddress,
  timeoutMs: number,
  signal?: AbortSignal,
): Promise<boolean> {
  if (jailRoot !== undefined && (await answersOnVsock(jailRoot, timeoutMs))) return true;
  return await readBanner(connect({ host: sshHost, port: sshPort }), timeoutMs, signal);
}

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
    (await connectVsock(jailRoot, SSH_PORT, { timeoutMs })).close();
    return true;
  } catch (thrown) {
    if (thrown instanceof BangerError && thrown.code === "GUEST_NOT_READY") return false;
    throw thrown;
  }
}
