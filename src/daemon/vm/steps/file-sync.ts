import { homedir } from "node:os";
import { writeFiles } from "../../disk/work-disk.ts";
import { collectSyncedFiles } from "../file-sync.ts";
import type { Step } from "../step.ts";
import { workDiskPath } from "./work-disk.ts";

/** Copies what `[[file_sync]]` names to a new VM's work disk. Nothing to undo: the disk keeps it, and goes with it. */
export const fileSync: Step = {
  name: "file-sync",
  do: async ({ config, dirs, signal, progress }) => {
    const files = await collectSyncedFiles(config.file_sync, homedir(), (message) =>
      progress({ stage: "files", message }),
    );
    if (files.length > 0) await writeFiles(workDiskPath(dirs.state), files, signal);
  },
  undo: async () => {},
};
