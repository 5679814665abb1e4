import { BangerError } from "../../../shared/errors.ts";
import { waitUntilReady } from "../../guest/ready.ts";
import type { Step } from "../step.ts";
import type { Vmm } from "../vmm.ts";
import { noteDelivered } from "./identity.ts";

/** Waits until a command runs in the guest; `onReady` is called then. Its undo ends the control connection. */
export function ready({ vmm, onReady }: { readonly vmm: Vmm; readonly onReady?: () => void }): Step {
  return {
    name: "ready",
    do: async ({ id, vm, dirs, guest, engine, acceleration, signal, progress }) => {
      const address = engine.guestAddress(vm, dirs);
      if (address === null || vm.pid === null) throw new BangerError("INTERNAL", "ready before launch");
      // One that has ended since its launch is found by nobody: then it is the pid that no process has.
      const [process = { pid: vm.pid, startTicks: "" }] = await vmm.find(id, dirs.runtime);
      progress({ stage: "ready", message: "Waiting for the guest" });
      using serial = engine.openLog(id, dirs, "serial");
      using vmmLog = engine.openLog(id, dirs, "vmm");
      const { bootId } = await waitUntilReady(
        guest,
        address,
        {
          name: vm.name,
          process,
          serialLogPath: serial?.path ?? "/dev/null",
          vmmLogPath: vmmLog?.path ?? "/dev/null",
        },
        engine.deadlines(acceleration).readyMs,
        signal,
      );
      await noteDelivered(dirs);
      onReady?.();
      return { bootId };
    },
    undo: async ({ id, dirs, guest }) => {
      await guest.close({ id, runtimeDir: dirs.runtime });
    },
  };
}
