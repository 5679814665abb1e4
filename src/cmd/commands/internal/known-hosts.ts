import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { localPaths } from "../../daemon/client.ts";
import { defineCommand } from "../../line/command.ts";
import { vmOfHost } from "../../guest/vm-host.ts";

export const command = defineCommand({
  args: {
    host: { type: "positional", required: true, description: "NAME.vm" },
    alias: { type: "positional", required: false, description: "The name ssh looks up, if different." },
  },
  examples: [],
  run: async ({ args, client, env, out }) => {
    const { id } = await (await client()).call("vm.show", { vm: vmOfHost(args.host) });
    // The daemon keeps each VM's key under a name made of its id; ssh asks for another one.
    const known = await readFile(join(localPaths(env).sshDir, "known_hosts"), "utf8");
    for (const line of known.split("\n")) {
      const [alias, ...key] = line.split(" ");
      if (alias === `banger-${id}`) out.line([args.alias ?? args.host, ...key].join(" "));
    }
  },
});
