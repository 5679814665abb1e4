import { BangerError } from "../../../shared/errors.ts";
import { waitUntilReady } from "../../guest/ready.ts";
import type { AgentReady } from "../../../shared/agent/answers.ts";
import { waitReady } from "../../../shared/agent/client.ts";
import { agentPlaceOf, type GuestAddress } from "../../guest/address.ts";
import type { GuestAgent } from "../../guest/questions.ts";
import type { Step } from "../step.ts";
import type { Vmm } from "../vmm.ts";
import { noteDelivered } from "./identity.ts";

const CLOCK_TIMEOUT_MS = 5000;

/** Waits until a command can run in the guest; `onReady` is called then. Its undo ends the control connection. */
export function ready({ vmm, onReady }: { readonly vmm: Vmm; readonly onReady?: () => void }): Step {
  return {
    name: "ready",
    do: async ({ id, vm, dirs, guest, engine, image, acceleration, signal, progress }) => {
      const address = engine.guestAddress(vm, dirs);
      if (address === null || vm.pid === null) throw new BangerError("INTERNAL", "ready before launch");
      // One that has ended since its launch is found by nobody: then it is the pid that no process has.
      const [process = { pid: vm.pid, startTicks: "" }] = await vmm.find(id, dirs.runtime);
      progress({ stage: "ready", message: "Waiting for the guest" });
      using serial = engine.openLog(id, dirs, "serial");
      using vmmLog = engine.openLog(id, dirs, "vmm");
      let hasBegun = false;
      const waitForAgent = async (timeoutMs: number, until: AbortSignal): Promise<AgentReady> => {
        await vmm.waitForAgentPorts?.(dirs.runtime, { timeoutMs, signal: until });
        hasBegun = true;
        return await waitReady(agentPlaceOf(address), { timeoutMs, signal: until });
      };
      const { bootId, agent } = await waitUntilReady(
        guest,
        address,
        {
          name: vm.name,
          process,
          serialLogPath: serial?.path ?? "/dev/null",
          vmmLogPath: vmmLog?.path ?? "/dev/null",
          waitForAgent: image.hasAgent ? waitForAgent : null,
          // Only emulation loses guests so; and only the ports tell.
          hasBegun:
            image.hasAgent && acceleration === "tcg" && vmm.waitForAgentPorts !== undefined
              ? () => hasBegun
              : undefined,
        },
        engine.deadlines(acceleration).readyMs,
        signal,
      );
      await noteDelivered(dirs);
      if (agent === "answers") await setClock(guest, address);
      onReady?.();
      return { bootId, agent };
    },
    undo: async ({ id, dirs, guest }) => {
      await guest.close({ id, runtimeDir: dirs.runtime });
    },
  };
}

/** A guest that refuses keeps the clock that its VMM gave it. */
async function setClock(guest: Pick<GuestAgent, "setClock">, address: GuestAddress): Promise<void> {
  try {
    await guest.setClock(address, CLOCK_TIMEOUT_MS);
  } catch (thrown) {
    if (!(thrown instanceof BangerError)) throw thrown;
  }
}
