import { localPaths } from "../daemon/client.ts";
import { usageError } from "../line/usage.ts";
import { defineCommand } from "../line/command.ts";
import {
  bangerSshConfig,
  installInclude,
  removeInclude,
  userConfigPath,
  writeBangerSshConfig,
} from "../guest/ssh-config.ts";

export const command = defineCommand({
  args: {
    install: { type: "boolean", description: "Writes banger's ssh configuration and includes it in ~/.ssh/config." },
    uninstall: { type: "boolean", description: "Removes the include from ~/.ssh/config." },
  },
  examples: [
    ["banger ssh-config --install", "sets up ssh NAME.vm, scp, rsync and remote editors"],
    ["banger ssh-config", "prints the configuration without writing it"],
  ],
  next: "ssh NAME.vm",
  run: async ({ args, env, out }) => {
    if (args.install === true && args.uninstall === true)
      throw usageError("--install and --uninstall can't be combined", ["ssh-config"]);
    const paths = localPaths(env);
    if (args.install === true) {
      const included = await writeBangerSshConfig(paths);
      const changed = await installInclude(userConfigPath(), included);
      out.note(`${userConfigPath()} ${changed ? "now includes" : "already includes"} ${included}`);
    } else if (args.uninstall === true) {
      const changed = await removeInclude(userConfigPath());
      out.note(`${userConfigPath()} ${changed ? "is as it was before" : "has no banger entry"}`);
    } else {
      out.data(bangerSshConfig(paths));
    }
  },
});
