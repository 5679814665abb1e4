import { localPaths } from "../../daemon/client.ts";
import { defineCommand } from "../../line/command.ts";

export const command = defineCommand({
  args: {
    start: {
      type: "boolean",
      default: true,
      description: "Starts the daemon.",
      negativeDescription: "Doesn't start the daemon.",
    },
  },
  examples: [],
  run: async ({ args, client, env, out }) => {
    if (args.start) await (await client()).call("system.ping", {});
    out.line(localPaths(env).apiSocket);
  },
});
