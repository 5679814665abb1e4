/** The words of every ssh command that banger runs: whom to believe, as whom, and which way. Source: ssh_config(5). Pure. */

import { join } from "node:path";
import type { Paths } from "../../../shared/places/paths.ts";
import { selfArgv } from "../../../shared/places/self.ts";
import { quote } from "../../../shared/remote-command.ts";
import type { GuestAddress } from "../address.ts";
import { hostKeyAlias, knownHostsPath, userKeyPath } from "./keys.ts";

/** How long a connection of its own waits for a guest that should be there. */
const PROXY_WAIT_MS = 5000;

export const controlPath = (runtimeDir: string): string => join(runtimeDir, "ssh.sock");

/** `-o` before each. */
export const options = (...values: readonly string[]): readonly string[] => values.flatMap((value) => ["-o", value]);

/** A path as a value of `ssh -o`: quoted for ssh_config(5), and `%` is its token character. */
const sshPath = (path: string): string => `"${path.replaceAll("%", "%%")}"`;

/** Nothing of the user's own configuration counts, and nobody but the guest's own host key is believed. */
export function commonOptions(paths: Paths, { id, runtimeDir }: GuestAddress): readonly string[] {
  return [
    ...["-F", "/dev/null"],
    ...options(`IdentityFile=${sshPath(userKeyPath(paths))}`, "IdentitiesOnly=yes", "IdentityAgent=none"),
    ...options("BatchMode=yes", "StrictHostKeyChecking=yes"),
    ...options(`UserKnownHostsFile=${sshPath(knownHostsPath(paths))}`, "GlobalKnownHostsFile=/dev/null"),
    ...options(`HostKeyAlias=${hostKeyAlias(id)}`, "CheckHostIP=no"),
    ...options(`ControlPath=${sshPath(controlPath(runtimeDir))}`),
    // Real CPUs have instructions for AES; emulated ones are no slower with it (measured: within a fifth of each other).
    ...options("Ciphers=aes128-gcm@openssh.com,chacha20-poly1305@openssh.com"),
  ];
}

/** The guest, and the way to it: vsock for one in a jail. */
export function destination(address: GuestAddress, waitMs = PROXY_WAIT_MS): readonly string[] {
  const { jailRoot, sshHost, sshPort } = address;
  const proxy =
    jailRoot === undefined
      ? []
      : options(`ProxyCommand=${proxyCommand(jailRoot, address, waitMs)}`, "ProxyUseFdpass=yes");
  return [...proxy, "-p", String(sshPort), `root@${sshHost}`];
}

/** banger itself as ssh's way to the guest: vsock where that answers, else the address. `%` is ssh's token character. */
function proxyCommand(jailRoot: string, { sshHost, sshPort }: GuestAddress, waitMs: number): string {
  const words = [
    ...[...selfArgv(), "internal", "guest-connect"],
    ...[jailRoot, sshHost, String(sshPort), String(Math.max(0, Math.round(waitMs)))],
  ];
  return words.map((word) => quote(word).replaceAll("%", "%%")).join(" ");
}

/** ssh, every option, the destination; a remote command may be appended. */
export function sshCommand(paths: Paths, address: GuestAddress): readonly string[] {
  return [
    "ssh",
    ...commonOptions(paths, address),
    ...options("LogLevel=ERROR", "ControlMaster=no", "ConnectTimeout=10"),
    ...destination(address),
  ];
}
