import { existsSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import { BangerError, isErrno } from "../../../../shared/errors.ts";
import { macOf } from "../../../../shared/network/guest-mac.ts";
import { JAIL } from "../../../../shared/contract/helper-api.ts";
import { openJailFile } from "../../../../shared/jail.ts";
import type { VmId } from "../../../../shared/contract/schemas.ts";
import { readTail } from "../../../guest/ready.ts";
import { netmaskOf, tapOf } from "../network/addresses.ts";
import type { GuestNetwork } from "../network/guest-network.ts";
import type { Privileged } from "../privileged.ts";
import { openFirecrackerApi } from "../firecracker-api.ts";
import { bootGuest, type FirecrackerVmm } from "../firecracker.ts";
import type { Step } from "../../step.ts";
import { serialLogPath, vmmLogPath } from "../../log-files.ts";
import { rootFilePath } from "./root-disk.ts";

/** What is kept of a log when the jail that held it goes. */
const KEPT_LOG_BYTES = 4 * 1024 * 1024;
const SSH_PORT = 22;

export interface LaunchParts {
  readonly privileged: Privileged;
  readonly network: GuestNetwork;
  readonly vmm: FirecrackerVmm;
  readonly jailRootOf: (id: VmId) => string;
  /** A name server that guests reach; null when this host has none. */
  readonly nameServer: () => string | null;
  /** Whether this host's own processor is emulated. */
  readonly isEmulated: () => boolean;
}

/** Firecracker in its jail. Its undo ends everything in the VM's scope, keeps the logs and removes the jail. */
export function launch({ privileged, network, vmm, jailRootOf }: LaunchParts): Step {
  return {
    name: "launch",
    do: async ({ id, vm, dirs, image, progress }) => {
      const { guestIp } = vm;
      if (guestIp === undefined || guestIp === null) throw new BangerError("INTERNAL", `${vm.name} has no address`);
      progress({ stage: "boot", message: "Booting" });
      const { process } = await privileged.call("priv.launch_firecracker", {
        vm: id,
        kernel: vm.kernel,
        initrd: image.initrdPath !== null,
        root: existsSync(rootFilePath(dirs.state)) ? "file" : "snapshot",
        tap: tapOf(network.network(), guestIp),
        vcpu: vm.spec.vcpu,
        memory_mib: vm.spec.memoryMiB,
      });
      const identity = { pid: process.pid, startTicks: process.start_ticks };
      vmm.remember(id, identity);
      return { pid: identity.pid, address: `${guestIp}:${SSH_PORT}` };
    },
    undo: async ({ id, dirs }) => {
      await privileged.call("priv.kill_process", { vm: id });
      await keepLogs(jailRootOf(id), dirs.state);
      await vmm.destroy(id, dirs.runtime);
    },
  };
}

/** Configures the VMM and starts the guest. Nothing of it outlives the VMM. */
export function boot({ network, jailRootOf, nameServer, isEmulated }: LaunchParts): Step {
  return {
    name: "boot",
    do: async ({ id, vm, image, signal }) => {
      const { guestIp } = vm;
      if (guestIp === undefined || guestIp === null) throw new BangerError("INTERNAL", `${vm.name} has no address`);
      const { ip, prefix } = network.network();
      using api = openFirecrackerApi(jailRootOf(id));
      await bootGuest(
        api,
        {
          id,
          name: vm.name,
          spec: vm.spec,
          hasInitrd: image.initrdPath !== null,
          tap: tapOf(network.network(), guestIp),
          mac: macOf(guestIp),
          network: { guest: guestIp, gateway: ip, netmask: netmaskOf(prefix), nameServer: nameServer() },
          isEmulated: isEmulated(),
        },
        signal,
      );
    },
    undo: async () => {},
  };
}

/** The end of each log, out of the jail into the VM's own directory. The VMM has ended: nobody swaps what is read. */
async function keepLogs(jailRoot: string, stateDir: string): Promise<void> {
  for (const [name, target] of [
    [JAIL.serialLog, serialLogPath(stateDir)],
    [JAIL.vmmLog, vmmLogPath(stateDir)],
  ] as const) {
    try {
      using log = openJailFile(jailRoot, name);
      await writeFile(target, await readTail(log.path, KEPT_LOG_BYTES), { mode: 0o600 });
    } catch (thrown) {
      // No jail, no log, or something else in its place: the VM's end doesn't hang on a log.
      const expected = ["ENOENT", "ENOTDIR", "ELOOP", "EACCES", "ENXIO", "EAGAIN"].some((errno) =>
        isErrno(thrown, errno),
      );
      if (!expected && !(thrown instanceof BangerError)) throw thrown;
    }
  }
}
