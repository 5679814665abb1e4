/** Images made from a root file system on this host, with a kernel of the store. */

import { stat } from "node:fs/promises";
import { join } from "node:path";
import { BangerError } from "../../../shared/errors.ts";
import { confinementNote, runTool } from "../../host/run-tool.ts";
import type { KernelStore } from "../../kernel/store.ts";
import { type ImageSource, ROOTFS } from "./source.ts";

const COPY_TIMEOUT_MS = 30 * 60_000;
const CHECK_TIMEOUT_MS = 120_000;

/**
 * `rootfs` is a file with an ext4 file system, by its absolute path.
 * @throws BangerError KERNEL_NOT_FOUND, INVALID_VALUE for what is not a clean file system
 */
export function fileSource(
  { rootfs, kernel }: { readonly rootfs: string; readonly kernel: string },
  kernels: Pick<KernelStore, "show">,
): ImageSource {
  return {
    check: async () => {
      await kernels.show(kernel);
      const info = await stat(rootfs).catch(() => null);
      if (info === null || !info.isFile()) throw new BangerError("INVALID_VALUE", `${rootfs} is not a file`);
    },
    fill: async (stagingDir, { signal, progress }) => {
      progress({ stage: "image", message: `Copying ${rootfs}` });
      const target = join(stagingDir, ROOTFS);
      await runTool(["cp", "--sparse=always", "--reflink=auto", "--", rootfs, target], {
        timeoutMs: COPY_TIMEOUT_MS,
        signal,
      });
      progress({ stage: "image", message: `Checking the file system${await confinementNote()}` });
      await runTool(["e2fsck", "-fn", target], {
        timeoutMs: CHECK_TIMEOUT_MS,
        signal,
        confined: { reads: [target] },
      }).catch((thrown: unknown) => {
        if (!(thrown instanceof BangerError) || thrown.code !== "FAILED") throw thrown;
        throw new BangerError("INVALID_VALUE", `${rootfs} is not a clean ext4 file system: ${thrown.message}`);
      });
      return {
        origin: { distro: "unknown", release: "unknown", source: rootfs, builtBy: "registered", units: [] },
        kernel: { kind: "known", name: kernel },
      };
    },
  };
}
