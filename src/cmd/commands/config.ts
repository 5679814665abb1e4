import { readFileSync } from "node:fs";
import { localPaths } from "../daemon/client.ts";
import { defineCommand } from "../line/command.ts";
import { CONFIG_KEYS, type ConfigKey, loadConfig } from "../../shared/config.ts";
import { isErrno } from "../../shared/errors.ts";

export const command = defineCommand({
  args: {},
  json: true,
  examples: [["banger config", "shows every setting, its value and where it comes from"]],
  next: "edit the file named on standard error, then banger daemon stop",
  run: async ({ env, json, out }) => {
    const { configFiles } = localPaths(env);
    const { values, sources } = loadConfig(configFiles, (path) => {
      try {
        return readFileSync(path, "utf8");
      } catch (thrown) {
        if (isErrno(thrown, "ENOENT")) return null;
        throw thrown;
      }
    });
    const keys = Object.keys(CONFIG_KEYS) as ConfigKey[];
    if (json)
      return out.json(Object.fromEntries(keys.map((key) => [key, { value: values[key], source: sources[key] }])));
    out.table(
      ["KEY", "VALUE", "FROM", "WHAT IT IS"],
      keys.map((key) => [
        key,
        values[key] === null ? "-" : String(values[key]),
        sources[key],
        CONFIG_KEYS[key].summary,
      ]),
    );
    out.note(`settings are read from ${configFiles.join(", then ")}`);
  },
});
