import { BangerError } from "../../../shared/errors.ts";
import { waitUntilReady } from "../../guest/ready.ts";
import type { Step } from "../step.ts";
import { noteDelivered } from "./identity.ts";

/** Waits until a command runs in the guest. Its undo ends the control connection. */
export const ready: Step = {
  name: "ready",
  do: async ({ id, vm, dirs, guest, engine, acceleration, signal, progress, outputs }) => {
    const { launched } = outputs;
    if (launched === undefined) throw new BangerError("INTERNAL", "ready before launch");
    const address = engine.guestAddress({ ...vm, address: `${launched.sshHost}:${launched.sshPort}` }, dirs);
    if (address === null) throw new BangerError("INTERNAL", "a launched VM without an address");
    progress({ stage: "ready", message: "Waiting for the guest" });
    using serial = engine.openLog(id, dirs, "serial");
    using vmm = engine.openLog(id, dirs, "vmm");
    const { bootId } = await waitUntilReady(
      guest,
      address,
      {
        name: vm.name,
        process: launched.process,
        serialLogPath: serial?.path ?? "/dev/null",
        vmmLogPath: vmm?.path ?? "/dev/null",
      },
      engine.deadlines(acceleration).readyMs,
      signal,
    );
    outputs.bootId = bootId;
    await noteDelivered(dirs);
  },
  undo: async ({ id, dirs, guest }) => {
    await guest.close({ id, runtimeDir: dirs.runtime });
  },
};
