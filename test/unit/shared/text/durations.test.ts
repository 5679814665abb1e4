import { expect, test } from "bun:test";
import { formatDuration, parseDuration } from "../../../../src/shared/text/durations.ts";

test.each([
  ["30s", 30_000],
  ["10m", 600_000],
  ["2h30m", 9_000_000],
  ["500ms", 500],
  ["1d", 86_400_000],
  ["0", 0],
])("%s is %d ms", (text, ms) => {
  expect(parseDuration(text)).toBe(ms);
});

test.each(["", "5", "s", "-1s", "1.5h", "1h 30m", "soon", "9999999999s"])("%p is no duration", (text) => {
  expect(parseDuration(text)).toBeNull();
});

test.each([
  [850, "850 ms"],
  [1900, "1.9s"],
  [125_000, "2m05s"],
])("%d ms reads %s", (ms, text) => {
  expect(formatDuration(ms)).toBe(text);
});
