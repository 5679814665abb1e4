import { VM_ARG, checkVmRef, readPort } from "../../line/args.ts";
import { defineCommand } from "../../line/command.ts";
import { BangerError } from "../../../shared/errors.ts";
import type { Forward } from "../../../shared/contract/schemas.ts";

const LOOK_MS = 2000;

/** `8080` or `18080:8080`. */
function readForward(text: string): { readonly hostPort: number; readonly guestPort: number } {
  const parts = text.split(":");
  if (parts.length > 2)
    throw new BangerError("INVALID_VALUE", `a forward must be PORT or HOSTPORT:PORT, not ${JSON.stringify(text)}`);
  const guestPort = readPort("a port", parts.at(-1) ?? "");
  return { hostPort: parts.length === 2 ? readPort("a port", parts[0] ?? "") : guestPort, guestPort };
}

export const command = defineCommand({
  args: {
    ...VM_ARG,
    detach: { type: "boolean", alias: "d", description: "Keeps the forwards until the VM stops." },
    stop: { type: "boolean", description: "Removes the forwards of these host ports." },
  },
  variadic: { name: "[host:]port", description: "Guest port, optionally preceded by a different host port.", least: 1 },
  json: true,
  examples: [
    ["banger vm forward box 8080", "forwards 127.0.0.1:8080 to port 8080 in box until ctrl-c"],
    ["banger vm forward -d box 18080:80", "forwards 127.0.0.1:18080 to port 80 in box until box stops"],
    ["banger vm forward --stop box 18080", "removes the forward"],
  ],
  next: "banger vm ports NAME",
  run: async ({ args, many, client, json, out, interrupts }) => {
    const ref = checkVmRef(args.vm);
    const asked = many.map(readForward);
    const daemon = await client();
    const { id, name } = await daemon.call("vm.show", { vm: ref });
    if (args.stop === true) {
      for (const { hostPort } of asked) await daemon.call("vm.unforward", { vm: id, hostPort });
      return 0;
    }
    const made: Forward[] = [];
    const takeAway = async (): Promise<void> => {
      const always = await client({ ignoreInterrupts: true, start: false });
      for (const { hostPort } of made)
        await always.call("vm.unforward", { vm: id, hostPort }).catch((thrown: unknown) => {
          // Taken away by somebody else, or with a VM that stopped.
          if (!(thrown instanceof BangerError) || thrown.code !== "FORWARD_NOT_FOUND") throw thrown;
        });
    };
    try {
      for (const ports of asked) made.push(await daemon.call("vm.forward", { vm: id, ...ports }));
    } catch (thrown) {
      await takeAway();
      throw thrown;
    }
    if (json) out.json(made);
    else for (const one of made) out.line(`${one.hostAddress}:${one.hostPort} -> ${name}:${one.guestPort}`);
    if (args.detach === true) return 0;
    out.note("forwarding until ctrl-c");
    while (!interrupts.signal.aborted) {
      await interrupts.sleep(LOOK_MS);
      if (interrupts.signal.aborted) break;
      const { state } = await daemon.call("vm.show", { vm: id });
      if (state !== "running") throw new BangerError("WRONG_STATE", `${name} is ${state}, so its forwards are gone`);
    }
    await takeAway();
    return 0;
  },
});
