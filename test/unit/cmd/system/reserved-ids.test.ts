import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { pickReservedRange, RESERVED_COUNT, takenRanges } from "../../../../src/cmd/system/reserved-ids.ts";

const NOBODY = { accounts: [], subordinates: [] };

describe("the range of ids for VMs", () => {
  test("on a host without anybody up there it is the first", () => {
    expect(pickReservedRange(NOBODY)).toEqual({ first: 1_900_000_000, count: RESERVED_COUNT });
  });

  test("reads what passwd and subuid say, and skips what is no entry", () => {
    expect(
      takenRanges({
        accounts: ["root:x:0:0::/root:/bin/sh\n# nothing\n+::::::\n"],
        subordinates: ["dev:100000:65536\n"],
      }),
    ).toEqual([
      { first: 0, count: 1 },
      { first: 100_000, count: 65_536 },
    ]);
  });

  test("never meets an account or a subordinate range", () => {
    const id = fc.integer({ min: 1_899_990_000, max: 1_900_100_000 });
    fc.assert(
      fc.property(fc.array(id), fc.array(fc.tuple(id, fc.integer({ min: 1, max: 70_000 }))), (accounts, ranges) => {
        const tables = {
          accounts: [accounts.map((uid) => `u${uid}:x:${uid}:100::/:/bin/sh`).join("\n")],
          subordinates: [ranges.map(([first, count]) => `u:${first}:${count}`).join("\n")],
        };
        const range = pickReservedRange(tables);
        if (range === null) return false;
        const end = range.first + range.count;
        return takenRanges(tables).every((taken) => taken.first >= end || taken.first + taken.count <= range.first);
      }),
    );
  });

  test("a host on which every id is taken has none", () => {
    expect(pickReservedRange({ accounts: [], subordinates: ["all:0:4294967296"] })).toBeNull();
  });
});
