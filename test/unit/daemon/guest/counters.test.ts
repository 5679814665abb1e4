import { expect, test } from "bun:test";
import fc from "fast-check";
import { parseCounters, readCounters } from "../../../../src/daemon/guest/counters.ts";
import { guestAddress } from "../../../support/guest-address.ts";

const OUTPUT = `Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo: 9000 1 0 0 0 0 0 0 9000 1 0 0 0 0 0 0
  eth0: 1200 1 0 0 0 0 0 0 340 1 0 0 0 0 0 0
 wg0:5 1 0 0 0 0 0 0 7 1 0 0 0 0 0 0
`;

test("counts every interface but loopback", () => {
  expect(parseCounters(OUTPUT)).toEqual({ rxBytes: 1205, txBytes: 347 });
});

test.each(["", "eth0: x 1", "eth0: 1e400 0 0 0 0 0 0 0 1", "eth0: 9007199254740993 0 0 0 0 0 0 0 1"])(
  "%p counts nothing",
  (line) => expect(parseCounters(line)).toEqual({ rxBytes: 0, txBytes: 0 }),
);

test("whatever the guest says: two numbers", () => {
  fc.assert(
    fc.property(fc.string({ unit: "binary" }), (output) => {
      const { rxBytes, txBytes } = parseCounters(output);
      expect(Number.isFinite(rxBytes) && Number.isFinite(txBytes)).toBe(true);
    }),
  );
});

test("a guest that doesn't answer, or fails, has no counters", async () => {
  const silent = { runLine: async () => await Promise.reject(new Error("timed out")) };
  const failing = { runLine: async () => await Promise.resolve({ exitCode: 1, stdout: OUTPUT, stderr: "no" }) };
  expect(await readCounters(silent, guestAddress)).toBeNull();
  expect(await readCounters(failing, guestAddress)).toBeNull();
});
