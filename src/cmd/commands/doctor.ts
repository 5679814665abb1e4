import { defineCommand } from "../line/command.ts";
import type { DoctorRow } from "../../shared/contract/schemas.ts";
import { restartCommand } from "../../shared/places/paths.ts";
import { toBangerError } from "../../shared/errors.ts";
import { VERSION } from "../../shared/version.ts";

const COLORS = { PASS: "green", WARN: "yellow", FAIL: "red" } as const;

export const command = defineCommand({
  args: {},
  json: true,
  examples: [["banger doctor", "checks this host and prints a fix for each problem"]],
  next: "banger vm run",
  run: async ({ client, json, out }) => {
    const rows: DoctorRow[] = [];
    try {
      const daemon = await client();
      const ping = await daemon.call("system.ping", {});
      rows.push({
        check: "daemon",
        level: ping.version === VERSION ? "PASS" : "WARN",
        message: `answers, process ${ping.pid}, version ${ping.version}${ping.version === VERSION ? "" : `, and this is ${VERSION}`}`,
        fix: ping.version === VERSION ? null : restartCommand(ping.mode),
      });
      rows.push(...(await daemon.call("system.doctor", {})));
    } catch (thrown) {
      const error = toBangerError(thrown);
      if (error.code === "CANCELLED") throw error;
      rows.push({
        check: "daemon",
        level: "FAIL",
        message: `${error.message} [${error.code}]`,
        fix: error.hint ?? null,
      });
    }
    if (json) {
      out.json(rows);
    } else {
      for (const { check, level, message, fix } of rows) {
        out.line([out.paint(COLORS[level], level), `  ${check}: ${message}`]);
        if (fix !== null) out.line(`      fix: ${fix}`);
      }
    }
    return rows.some(({ level }) => level === "FAIL") ? 1 : 0;
  },
});
