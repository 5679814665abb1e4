import { expect, test } from "bun:test";
import fc from "fast-check";
import { formatBytes, parseSize } from "../../../../src/shared/text/sizes.ts";

test.each([
  ["512M", 512 * 1024 ** 2],
  ["2G", 2 * 1024 ** 3],
  ["2GiB", 2 * 1024 ** 3],
  ["2gb", 2 * 1024 ** 3],
  ["1.5G", 1.5 * 1024 ** 3],
  ["7", 7 * 1024 ** 2],
  ["64K", 64 * 1024],
  ["1T", 1024 ** 4],
])("%s is %d bytes", (text, bytes) => {
  expect(parseSize(text)).toBe(bytes);
});

test.each(["", "G", "-1G", "1e9", "1G2", "lots", "0x10", "1.0000001K", "9999999999999999T", "1 000M", "١G"])(
  "%p is no size",
  (text) => {
    expect(parseSize(text)).toBeNull();
  },
);

test("whole units come back as they were written", () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 1023 }), fc.constantFrom("K", "M", "G", "T"), (count, unit) => {
      const bytes = parseSize(`${count}${unit}`) ?? NaN;
      expect(formatBytes(bytes)).toBe(`${count} ${unit}iB`);
    }),
  );
});
