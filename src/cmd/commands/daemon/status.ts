import { ownPaths } from "../../daemon/client.ts";
import { defineCommand } from "../../line/command.ts";
import { formatTable } from "../../terminal/output.ts";
import { flattenRecord } from "../../terminal/format.ts";
import { BangerError } from "../../../shared/errors.ts";

export const command = defineCommand({
  args: {},
  json: true,
  examples: [["banger daemon status", "shows if the daemon runs, and since when"]],
  next: "banger daemon logs",
  run: async ({ client, json, out, env }) => {
    const daemon = await client({ start: false, timeoutMs: 10_000 });
    const { apiSocket, stateDir } = ownPaths(env);
    const row = await daemon.call("system.ping", {}).then(
      (ping) => ({ running: true, socket: apiSocket, ...ping }),
      (thrown: unknown) => {
        if (
          !(thrown instanceof BangerError) ||
          thrown.code !== "DAEMON_UNREACHABLE" ||
          thrown.details?.["listens"] !== false
        )
          throw thrown;
        return { running: false, socket: apiSocket, stateDir, pid: null };
      },
    );
    if (json) return out.json(row);
    out.data(formatTable(flattenRecord(row)));
    if (!row.running) out.note("the first command that needs the daemon starts it");
  },
});
