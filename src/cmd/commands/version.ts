import { API_LEVEL } from "../../shared/contract/api-level.ts";
import { defineCommand } from "../line/command.ts";
import type { Output } from "../terminal/output.ts";
import { IS_TEST_BUILD, VERSION } from "../../shared/version.ts";

export function printVersion(out: Output, json: boolean): void {
  if (json) out.json({ version: VERSION, apiLevel: API_LEVEL });
  else out.line(`banger ${VERSION}${IS_TEST_BUILD ? " (built for tests)" : ""}`);
}

export const command = defineCommand({
  args: {},
  json: true,
  examples: [["banger version", "shows this executable's version"]],
  next: "banger daemon status shows the daemon's",
  run: async ({ out, json }) => printVersion(out, json),
});
