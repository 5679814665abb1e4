import { defineCommand } from "../line/command.ts";

export const command = defineCommand({
  args: { "dry-run": { type: "boolean", description: "Lists leftovers without removing them." } },
  json: true,
  examples: [
    ["banger gc --dry-run", "lists leftovers"],
    ["banger gc", "removes leftovers"],
  ],
  next: "banger vm prune",
  run: async ({ args, client, json, out }) => {
    const daemon = await client();
    const found = await daemon.call("system.gc", { dryRun: true });
    if (!json) {
      for (const { kind, what } of found) out.line(`${kind}  ${what}`);
      if (found.length === 0) out.note("no leftovers");
    }
    const removed =
      args["dry-run"] === true || found.length === 0 ? found : await daemon.call("system.gc", { dryRun: false });
    if (json) out.json(removed);
  },
});
