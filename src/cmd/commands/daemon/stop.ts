import { readFile } from "node:fs/promises";
import { defineCommand } from "../../line/command.ts";
import { BangerError } from "../../../shared/errors.ts";

/** Longer than the daemon gives what it has begun to be undone. */
const STOP_TIMEOUT_MS = 90_000;
const POLL_MS = 20;

export const command = defineCommand({
  args: {},
  json: true,
  examples: [["banger daemon stop", "stops the daemon; the next command starts it again"]],
  next: "banger ps",
  run: async ({ client, json, out, interrupts, env }) => {
    const daemon = await client({ start: false });
    let pid: number;
    let runningVms: number;
    try {
      ({ pid } = await daemon.call("system.ping", {}));
      ({ runningVms } = await daemon.call("system.shutdown", {}));
    } catch (thrown) {
      if (!(thrown instanceof BangerError) || thrown.details?.["listens"] !== false) throw thrown;
      if (json) out.json({ pid: null, runningVms: null });
      else out.note("the daemon is not running");
      return;
    }
    if ((env["BANGER_HOST"] ?? "") !== "") {
      // Its process is not of this machine, so its end is not waited for.
      if (json) out.json({ pid, runningVms });
      return;
    }
    const deadline = Date.now() + STOP_TIMEOUT_MS;
    await out.waiting("Waiting for the daemon to stop", async () => {
      while (await isAlive(pid)) {
        interrupts.signal.throwIfAborted();
        if (Date.now() > deadline)
          throw new BangerError(
            "FAILED",
            `the daemon (process ${pid}) did not stop within ${STOP_TIMEOUT_MS / 1000} s`,
            {
              hint: "banger daemon logs",
            },
          );
        await interrupts.sleep(POLL_MS);
      }
    });
    if (json) out.json({ pid, runningVms });
    else out.note(`the daemon stopped; ${runningVms} ${runningVms === 1 ? "VM keeps" : "VMs keep"} running`);
  },
});

/** Whether the process is there and no zombie. */
async function isAlive(pid: number): Promise<boolean> {
  const status = await readFile(`/proc/${pid}/stat`, "utf8").catch(() => null);
  return status !== null && !/^\d+ \([\s\S]*\) [ZX]/.test(status);
}
