import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import {
  pickReservedRange,
  RESERVABLE,
  RESERVED_COUNT,
  takenRanges,
} from "../../../../../src/cmd/system/host/reserved-ids.ts";

const NOBODY = { accounts: [], subordinates: [] };

describe("the range of ids for VMs", () => {
  test("on a host without anybody up there it is the first", () => {
    expect(pickReservedRange(NOBODY)).toEqual({ first: RESERVABLE.first, count: RESERVED_COUNT });
  });

  test.each([
    ["SSSD's mapping of directory accounts, sssd-ldap(5)", 200_000, 2_000_200_000],
    ["systemd-nspawn's containers", 524_288, 1_879_048_191],
    ["systemd's foreign ids", 2_147_352_576, 2_147_418_111],
    ["systemd's dynamic users", 61_184, 65_519],
    ["the default of subordinate ids, login.defs(5)", 100_000, 600_100_000],
    ["what isn't a uid or is one bit short of one", 2_147_483_647, 4_294_967_295],
  ])("is clear of %s", (_, first, last) => {
    expect(RESERVABLE.first > last || RESERVABLE.end <= first).toBe(true);
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
    const id = fc.integer({ min: RESERVABLE.first - 10_000, max: RESERVABLE.first + 100_000 });
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
