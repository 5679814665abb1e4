import { BangerError } from "../../../shared/errors.ts";
import { READY_DEADLINE_MS, waitUntilReady } from "../../guest/ready.ts";
import type { Step } from "../step.ts";
import { serialLogPath } from "./launch.ts";

/** Waits until a command runs in the guest. Its undo ends the control connection. */
export const ready: Step = {
  name: "ready",
  do: async ({ id, vm, dirs, guest, acceleration, signal, progress, outputs }) => {
    const { launched } = outputs;
    if (launched === undefined) throw new BangerError("INTERNAL", "ready before launch");
    progress({ stage: "ready", message: "waiting for the guest" });
    const { bootId } = await waitUntilReady(
      guest,
      { id, sshHost: launched.sshHost, sshPort: launched.sshPort, runtimeDir: dirs.runtime },
      { name: vm.name, process: launched.process, serialLogPath: serialLogPath(dirs.state) },
      READY_DEADLINE_MS[acceleration],
      signal,
    );
    outputs.bootId = bootId;
  },
  undo: async ({ id, dirs, guest }) => {
    await guest.close({ id, runtimeDir: dirs.runtime });
  },
};
