import { rm, truncate } from "node:fs/promises";
import { existsSync } from "node:fs";
import { stat } from "node:fs/promises";
import { join } from "node:path";
import type { Privileged } from "../privileged.ts";
import { tryTool } from "../../../host/run-tool.ts";
import type { Step } from "../../step.ts";

const CLONE_TIMEOUT_MS = 60_000;

/** A root disk of the VM's own, where the file system can clone files (XFS, btrfs); elsewhere there is none. */
export const rootFilePath = (stateDir: string): string => join(stateDir, "root.ext4");

/**
 * The root disk from create to delete: a clone of the image's file where that costs nothing, else the COW file of a dm snapshot,
 * which the helper makes at the first start.
 */
export function rootDisk(privileged: Privileged): Step {
  return {
    name: "root-disk",
    do: async ({ dirs, image, vm, signal, progress }) => {
      progress({ stage: "disk", message: "Creating disks" });
      const path = rootFilePath(dirs.state);
      const clone = await tryTool(["cp", "--reflink=always", "--", image.rootfsPath, path], {
        timeoutMs: CLONE_TIMEOUT_MS,
        signal,
      });
      if (clone.exitCode !== 0) {
        // EOPNOTSUPP on ext4 and tmpfs, EXDEV across file systems: then a snapshot it is.
        await rm(path, { force: true });
        return;
      }
      if (vm.spec.systemOverlayBytes > (await stat(path)).size) await truncate(path, vm.spec.systemOverlayBytes);
    },
    undo: async ({ id, dirs }) => {
      await rm(rootFilePath(dirs.state), { force: true });
      await privileged.call("priv.remove_dm_snapshot", { vm: id, discard: true });
    },
  };
}

/** The root disk from start to stop: the dm snapshot over the image's shared loop device. Its COW file stays. */
export function rootSnapshot(privileged: Privileged): Step {
  return {
    name: "root-snapshot",
    do: async ({ id, dirs, vm }) => {
      if (existsSync(rootFilePath(dirs.state))) return;
      await privileged.call("priv.create_dm_snapshot", {
        vm: id,
        image: vm.image,
        root_bytes: vm.spec.systemOverlayBytes,
      });
    },
    undo: async ({ id }) => {
      await privileged.call("priv.remove_dm_snapshot", { vm: id, discard: false });
    },
  };
}
