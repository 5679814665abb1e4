import { expect, test } from "bun:test";
import { NAME_PATTERN } from "../../../../src/shared/contract/names.ts";
import { generateName } from "../../../../src/daemon/vm/names.ts";

test("a name is a name, and never one that is taken, even when all are", () => {
  const taken = new Set<string>();
  for (let round = 0; round < 1500; round++) {
    const name = generateName((candidate) => taken.has(candidate));
    expect(name).toMatch(NAME_PATTERN);
    expect(taken.has(name)).toBe(false);
    taken.add(name);
  }
});
