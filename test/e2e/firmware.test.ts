/**
 * Distributions give QEMU's microvm machine different firmware: Debian 12 has qboot, Debian 13 and upstream QEMU have SeaBIOS.
 * The kernel must start under each.
 */

import { afterAll, beforeAll, expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import * as v from "valibot";
import { runTool } from "../../src/daemon/host/run-tool.ts";
import { detectAcceleration } from "../../src/daemon/engine/acceleration.ts";
import { readTscKhz } from "../../src/daemon/engine/host-tsc.ts";
import { qemuArgv } from "../../src/daemon/engine/rootless/qemu.ts";
import { VmId } from "../../src/shared/contract/schemas.ts";
import { ensureImages } from "../support/banger.ts";

const FIRMWARE = ["/usr/share/seabios/bios-microvm.bin", "/usr/share/qemu/qboot.rom"];
const START_TIMEOUT_MS = 90_000;
const IMAGE_TIMEOUT_MS = 700_000;
/** The console is up by now. */
const STARTED = "Kernel command line";
const POLL_MS = 50;

let directory = "";
let kernels = "";

beforeAll(async () => {
  directory = await mkdtemp("/tmp/bt-");
  kernels = join(await ensureImages(), "kernels");
}, IMAGE_TIMEOUT_MS);

afterAll(async () => {
  await rm(directory, { recursive: true, force: true });
});

for (const firmware of FIRMWARE) {
  const isMissing = !existsSync(firmware);
  test.skipIf(isMissing)(
    `${firmware} starts the kernel${isMissing ? " (skipped: not installed)" : ""}`,
    async () => {
      const serialLogPath = join(directory, "serial.log");
      const rootDiskPath = join(directory, "root.qcow2");
      const workDiskPath = join(directory, "work.img");
      await rm(serialLogPath, { force: true });
      await runTool(["qemu-img", "create", "-q", "-f", "qcow2", rootDiskPath, "1M"], { timeoutMs: 30_000 });
      const identityDiskPath = join(directory, "identity.img");
      for (const path of [workDiskPath, identityDiskPath])
        await runTool(["truncate", "-s", "1M", path], { timeoutMs: 30_000 });
      const [kernel = ""] = await readdir(kernels);
      const argv = qemuArgv(
        {
          id: v.parse(VmId, "0123456789ab"),
          name: "box",
          spec: { vcpu: 1, memoryMiB: 256, diskBytes: 1, systemOverlayBytes: 1, nat: false },
          acceleration: detectAcceleration().kind,
          kernelPath: join(kernels, kernel, "vmlinux"),
          initrdPath: null,
          rootDiskPath,
          workDiskPath,
          identityDiskPath,
          serialLogPath,
          vmmLogPath: join(directory, "vmm.log"),
          runtimeDir: directory,
        },
        await readTscKhz(),
      );
      const append = argv.indexOf("-append") + 1;
      const spoken = argv.map((word, index) => (index === append ? `${word} earlyprintk=ttyS0 loglevel=8` : word));
      const qemu = Bun.spawn(["setpriv", "--pdeathsig", "KILL", ...spoken, "-bios", firmware], {
        stdin: "ignore",
        stdout: "ignore",
        stderr: "pipe",
      });
      try {
        const deadline = performance.now() + START_TIMEOUT_MS;
        let said = "";
        while (!said.includes(STARTED) && qemu.exitCode === null && performance.now() < deadline) {
          await Bun.sleep(POLL_MS);
          said = existsSync(serialLogPath) ? await readFile(serialLogPath, "utf8") : "";
        }
        expect(said).toContain(STARTED);
      } finally {
        qemu.kill("SIGKILL");
        await qemu.exited;
      }
    },
    START_TIMEOUT_MS + 30_000,
  );
}
