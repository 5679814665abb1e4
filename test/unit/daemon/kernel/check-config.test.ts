import { expect, test } from "bun:test";
import { checkKernelConfig } from "../../../../src/daemon/kernel/check-config.ts";

test("built in, module, off and absent are told apart", () => {
  const config = [
    "CONFIG_VIRTIO_MMIO=m",
    "CONFIG_VIRTIO_BLK=y",
    "# CONFIG_VIRTIO_NET is not set",
    "CONFIG_EXT4_FS=y",
    "CONFIG_EXT4_FS_SECURITY=y",
  ];
  expect(checkKernelConfig(config.join("\n"))).toEqual({
    missing: ["VIRTIO_NET", "VSOCKETS"],
    modules: ["VIRTIO_MMIO"],
  });
});
