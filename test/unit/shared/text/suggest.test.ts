import { expect, test } from "bun:test";
import fc from "fast-check";
import { editDistance, suggest } from "../../../../src/shared/text/suggest.ts";

test.each([
  ["lsit", "list"],
  ["strat", "start"],
  ["delet", "delete"],
  ["works", "workspace"],
])("%s means %s", (word, meant) => {
  expect(suggest(word, ["list", "start", "stop", "delete", "workspace"])).toBe(meant);
});

test.each(["constructor", "xyzzy", "", "q"])("%p means nothing known", (word) => {
  expect(suggest(word, ["list", "start", "stop"])).toBeNull();
});

test("the distance is a metric's: zero for equals, the same both ways, at most the longer length", () => {
  fc.assert(
    fc.property(fc.string({ maxLength: 12 }), fc.string({ maxLength: 12 }), (a, b) => {
      expect(editDistance(a, a)).toBe(0);
      expect(editDistance(a, b)).toBe(editDistance(b, a));
      expect(editDistance(a, b)).toBeLessThanOrEqual(Math.max(a.length, b.length));
    }),
  );
});
