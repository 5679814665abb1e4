import { homedir } from "node:os";
import { type DiskFile, IDENTITY_DIRECTORY, writeFiles } from "../../disk/work-disk.ts";
import { ensureHostKey, ensureUserKey, readOwnKey, rememberHost } from "../../guest/keys.ts";
import { tryTool } from "../../run-tool.ts";
import type { Step } from "../step.ts";
import { workDiskPath } from "./work-disk.ts";

/** Keys, pinned host key and the host's git name, written afresh at every start. Nothing to undo: the disk keeps them. */
export const identity: Step = {
  name: "identity",
  do: async ({ id, dirs, paths, config, signal }) => {
    const [userKey, hostKey, gitConfig] = await Promise.all([
      ensureUserKey(paths),
      ensureHostKey(dirs.state, id, signal),
      readGitIdentity(signal),
    ]);
    await rememberHost(paths, id, hostKey.shared);
    const ownKey = config.ssh_key_path === null ? "" : await readOwnKey(config.ssh_key_path, homedir());
    const files: DiskFile[] = [
      { path: `${IDENTITY_DIRECTORY}/ssh_host_ed25519_key`, mode: 0o600, contents: hostKey.secret },
      { path: `${IDENTITY_DIRECTORY}/ssh_host_ed25519_key.pub`, mode: 0o644, contents: hostKey.shared },
      { path: `${IDENTITY_DIRECTORY}/authorized_keys`, mode: 0o600, contents: userKey + ownKey },
      { path: "/.hushlogin", mode: 0o644, contents: "" },
    ];
    if (gitConfig !== null) files.push({ path: `${IDENTITY_DIRECTORY}/gitconfig`, mode: 0o644, contents: gitConfig });
    await writeFiles(workDiskPath(dirs.state), files, signal);
  },
  undo: async () => {},
};

/** `[user]` of the host's git; null when there is none. */
async function readGitIdentity(signal: AbortSignal): Promise<string | null> {
  if (Bun.which("git") === null) return null;
  const asked = ["git", "config", "--global", "--null", "--get-regexp", "^user\\.(name|email)$"];
  return formatGitIdentity((await tryTool(asked, { timeoutMs: 5000, signal })).stdout);
}

/** `[user]` in git's own syntax from what `git config --null --get-regexp` printed; null when that is nothing. Pure. */
export function formatGitIdentity(entries: string): string | null {
  const lines = entries.split("\0").flatMap((entry) => {
    const [key = "", value = ""] = entry.split(/\n(.*)/s);
    return value.trim() === "" ? [] : [`\t${key.slice("user.".length)} = ${JSON.stringify(value.trim())}`];
  });
  return lines.length === 0 ? null : `[user]\n${lines.join("\n")}\n`;
}
