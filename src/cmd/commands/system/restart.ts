import { defineCommand } from "../../line/command.ts";

export const command = defineCommand({
  args: {},
  json: true,
  examples: [["sudo banger system restart", "restarts the daemon and the helper; VMs keep running"]],
  run: async ({ json, out }) => {
    const { restartSystem } = await import("../../system/restart.ts");
    const result = await restartSystem((message) => out.note(message));
    if (json) return out.json(result);
    out.line(`the daemon and the helper answer; running VMs: ${result.runningVms}`);
  },
});
