import { expect, test } from "bun:test";
import { isPowerOff, isReboot } from "../../../../src/daemon/guest/last-words.ts";

test.each([
  ["[  12.345678] reboot: Restarting system\n", "reboot"],
  ["[  12.345678] reboot: Restarting system\r\n", "reboot"],
  ["[  12.345678] reboot: Restarting system with command 'now'\n", "reboot"],
  ["[  12.345678] reboot: Restarting system\n[  12.345679] reboot: machine restart\n", "reboot"],
  ["[  12.345678] reboot: Power down\n", "power-off"],
  ["[  12.345678] reboot: System halted\n", "power-off"],
  ["[  12.345678] reboot: Restarting system\nbooting\n", "neither"],
  ["[   1.0] Kernel panic - not syncing: VFS\n[   1.0] Rebooting in 1 seconds..\n", "neither"],
  ["", "neither"],
] as const)("%p is %s", (words, is) => {
  expect([isReboot(words), isPowerOff(words)]).toEqual([is === "reboot", is === "power-off"]);
});
