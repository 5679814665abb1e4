/** Rows for the programs that something needs. */

import type { DoctorRow } from "../../shared/contract/schemas.ts";
import { type Need, toolsFor } from "../../shared/host-needs.ts";
import { toolPath } from "../host/run-tool.ts";

/** A row for each; FAIL for one that is not installed. */
export function examineTools(need: Need): readonly DoctorRow[] {
  return toolsFor(need).map(({ program, package: name, purpose }): DoctorRow => {
    const check = `tool ${program}`;
    const path = Bun.which(program, { PATH: toolPath() });
    if (path !== null) return { check, level: "PASS", message: path, fix: null };
    return {
      check,
      level: "FAIL",
      message: `${program} (${purpose}) is not installed`,
      fix: `sudo apt install ${name}`,
    };
  });
}
