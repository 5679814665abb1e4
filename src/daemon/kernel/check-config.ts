/** Checks a kernel's build configuration for what a guest of banger needs (images.md "Kernels"). Pure. */

const NEEDED = ["VIRTIO_MMIO", "VIRTIO_BLK", "VIRTIO_NET", "EXT4_FS", "VSOCKETS"] as const;

export interface ConfigFindings {
  /** Neither built in nor a module: the kernel can't be used. */
  readonly missing: readonly string[];
  /** Modules: the initrd must load them. */
  readonly modules: readonly string[];
}

export function checkKernelConfig(config: string): ConfigFindings {
  const values = new Map<string, string>();
  for (const match of config.matchAll(/^CONFIG_([A-Z0-9_]+)=(\S+)$/gm)) {
    const [, key, value] = match;
    if (key !== undefined && value !== undefined) values.set(key, value);
  }
  return {
    missing: NEEDED.filter((key) => !["y", "m"].includes(values.get(key) ?? "n")),
    modules: NEEDED.filter((key) => values.get(key) === "m"),
  };
}
