import { checkVmRef } from "../../line/args.ts";
import { defineCommand, type Invocation } from "../../line/command.ts";
import { formatTable } from "../../terminal/output.ts";
import { formatBytes } from "../../../shared/text/sizes.ts";
import type { VmStats } from "../../../shared/contract/schemas.ts";

const WATCH_MS = 2000;

const orDash = (bytes: number | null): string => (bytes === null ? "-" : formatBytes(bytes));

function formatStats(stats: readonly VmStats[]): string {
  return formatTable([
    ["ID", "NAME", "CPU %", "MEMORY", "DISK", "RECEIVED", "SENT"],
    ...stats.map((one) => [
      one.id,
      one.name,
      one.cpuPercent.toFixed(1),
      formatBytes(one.memoryBytes),
      formatBytes(one.diskBytes),
      orDash(one.rxBytes),
      orDash(one.txBytes),
    ]),
  ]);
}

export const command = defineCommand({
  args: { watch: { type: "boolean", alias: "w", description: "Refreshes every two seconds until ctrl-c." } },
  variadic: { name: "vm", description: "Names or ids; default: every running VM.", least: 0 },
  json: true,
  examples: [
    ["banger vm stats", "shows every running VM's use"],
    ["banger vm stats --watch box", "shows box's use and keeps refreshing"],
  ],
  next: "banger vm set NAME --memory 4G",
  run: async (invocation) => {
    const { args, many, client, json, out } = invocation;
    const daemon = await client();
    const vms = many.map(checkVmRef);
    const read = async (): Promise<VmStats[]> => await daemon.call("vm.stats", { vms });
    if (args.watch === true) return await watch(invocation, read);
    const stats = await read();
    if (json) out.json(stats);
    else out.data(formatStats(stats));
    return 0;
  },
});

async function watch(
  { out, json, interrupts }: Pick<Invocation, "out" | "json" | "interrupts">,
  read: () => Promise<VmStats[]>,
): Promise<number> {
  using reader = out.watchReader();
  while (!interrupts.signal.aborted) {
    reader.signal.throwIfAborted();
    const stats = await read();
    if (json) {
      for (const one of stats) out.jsonLine(one);
    } else {
      out.clearScreen();
      out.data(formatStats(stats));
    }
    await interrupts.sleep(WATCH_MS);
  }
  return interrupts.exitStatus ?? 0;
}
