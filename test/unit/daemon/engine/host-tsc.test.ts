import { expect, test } from "bun:test";
import { parseTscKhz } from "../../../../src/daemon/engine/host-tsc.ts";

const cpu = (flags: string, bogomips: string): string =>
  `processor\t: 0\ncpu MHz\t\t: 1200.000\nflags\t\t: fpu ${flags} sse\nbogomips\t: ${bogomips}\n\nprocessor\t: 1\nflags\t\t: constant_tsc\nbogomips\t: 1.00\n`;

test("half the first processor's bogomips, whatever its clock does at the moment", () => {
  expect(parseTscKhz(cpu("constant_tsc", "4890.81"))).toBe(2_445_405);
});

test.each([
  ["a counter whose rate changes", cpu("tsc", "4890.81")],
  ["nothing told", cpu("constant_tsc", "")],
  ["nonsense", cpu("constant_tsc", "12.34")],
  ["no processor", ""],
])("%s: null", (_what, text) => {
  expect(parseTscKhz(text)).toBeNull();
});
