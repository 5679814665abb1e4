import { existsSync } from "node:fs";
import { readFile, rm, stat } from "node:fs/promises";
import { homedir } from "node:os";
import { join } from "node:path";
import { type GuestIdentity, identityArchive, writeIdentityDisk } from "../disks/identity-disk.ts";
import type { DiskFile } from "../disks/seed.ts";
import { createWorkDisk, growthMarkOf } from "../disks/work-disk.ts";
import { ensureHostKey, ensureUserKey, hostKeyPath, readOwnKey, rememberHost } from "../../guest/ssh/keys.ts";
import { tryTool } from "../../host/run-tool.ts";
import type { VmDirs } from "../guest-access.ts";
import type { Step, StepContext } from "../step.ts";
import { collectFiles, firstFilesPath } from "./file-sync.ts";
import { workDiskPath } from "./work-disk.ts";

export const identityDiskPath = (stateDir: string): string => join(stateDir, "identity.img");

/** Keys, pinned host key and the host's git name, on a disk made anew at every start. It goes when the VM stops. */
export function identity(): Step {
  return {
    name: "identity",
    do: async (context) => {
      const { id, dirs, paths, config, image, signal } = context;
      const isFirstStart = !existsSync(hostKeyPath(dirs.state));
      const [userKey, hostKey, gitConfig] = await Promise.all([
        ensureUserKey(paths),
        ensureHostKey(dirs.state, id, signal),
        readGitIdentity(signal),
      ]);
      await rememberHost(paths, id, hostKey.shared);
      const ownKey = config.ssh_key_path === null ? "" : await readOwnKey(config.ssh_key_path, homedir());
      const known: GuestIdentity = {
        hostKey: hostKey.secret,
        hostKeyPublic: hostKey.shared,
        authorizedKeys: userKey + ownKey,
        gitConfig,
      };
      if (isFirstStart && !image.readsIdentity) await seedWorkDisk(context, known);
      const files = await readFile(firstFilesPath(dirs.state)).catch(() => null);
      const hasGrown = existsSync(growthMarkOf(workDiskPath(dirs.state)));
      await writeIdentityDisk(identityDiskPath(dirs.state), identityArchive(known, { files, hasGrown }));
    },
    undo: async ({ dirs }) => {
      await rm(identityDiskPath(dirs.state), { force: true });
    },
  };
}

/** The guest has booted with it: what it makes of its files from here on is its own. */
export async function noteDelivered({ state }: VmDirs): Promise<void> {
  await rm(growthMarkOf(workDiskPath(state)), { force: true });
  await rm(firstFilesPath(state), { force: true });
}

/**
 * For a guest whose image doesn't read the identity disk (an older banger built it, or somebody else): its keys go onto a work disk
 * made anew, once, before any guest has seen it. That there was no host key yet proves that none has.
 */
async function seedWorkDisk(
  context: StepContext,
  { hostKey, hostKeyPublic, authorizedKeys }: GuestIdentity,
): Promise<void> {
  const { vm, dirs, signal, progress } = context;
  progress({ stage: "disk", message: `The image ${vm.image} reads no identity disk, so keys are set only once` });
  const path = workDiskPath(dirs.state);
  const key = (name: string, mode: number, contents: string): DiskFile => ({
    path: `/.banger/${name}`,
    mode,
    contents,
  });
  try {
    await createWorkDisk(path, (await stat(path)).size, signal, [
      ...(await collectFiles(context)),
      key("ssh_host_ed25519_key", 0o600, hostKey),
      key("ssh_host_ed25519_key.pub", 0o644, hostKeyPublic),
      key("authorized_keys", 0o600, authorizedKeys),
    ]);
  } catch (thrown) {
    // The next start is the first one again.
    await rm(hostKeyPath(dirs.state), { force: true });
    throw thrown;
  }
}

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
