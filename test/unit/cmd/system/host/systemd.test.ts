import { expect, test } from "bun:test";
import { parseUnits } from "../../../../../src/cmd/system/host/systemd.ts";

test("what systemctl show prints, for units that run, that don't, and that aren't there", () => {
  expect(
    parseUnits(
      "MainPID=41\nId=bangerd.service\nActiveState=active\nUnitFileState=enabled\n\nId=bangerd.socket\nActiveState=failed\nUnitFileState=disabled\n\nMainPID=0\nId=none.service\nActiveState=inactive\nUnitFileState=\n",
    ),
  ).toEqual([
    { name: "bangerd.service", active: "active", enabled: "enabled", pid: 41 },
    { name: "bangerd.socket", active: "failed", enabled: "disabled", pid: null },
    { name: "none.service", active: "inactive", enabled: "", pid: null },
  ]);
});
