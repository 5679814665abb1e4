import { rm, writeFile } from "node:fs/promises";
import { homedir } from "node:os";
import { join } from "node:path";
import { filesArchive } from "../disks/identity-disk.ts";
import type { DiskFile } from "../disks/seed.ts";
import { collectSyncedFiles } from "../../guest/synced-files.ts";
import type { Step, StepContext } from "../step.ts";

/** The files that a new VM begins with, until it has been reached. */
export const firstFilesPath = (stateDir: string): string => join(stateDir, "first-files.tar");

/** Keeps what `[[file_sync]]` names for the VM's first start. */
export function fileSync(): Step {
  return {
    name: "file-sync",
    do: async (context) => {
      await writeFile(firstFilesPath(context.dirs.state), filesArchive(await collectFiles(context)), { mode: 0o600 });
    },
    undo: async ({ dirs }) => {
      await rm(firstFilesPath(dirs.state), { force: true });
    },
  };
}

/** What /root of a new VM holds. */
export async function collectFiles({ config, progress }: StepContext): Promise<readonly DiskFile[]> {
  const synced = await collectSyncedFiles(config.file_sync, homedir(), (message) =>
    progress({ stage: "files", message }),
  );
  return [{ path: "/.hushlogin", mode: 0o644, contents: "" }, ...synced];
}
