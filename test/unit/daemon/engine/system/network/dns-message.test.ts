import { expect, test } from "bun:test";
import fc from "fast-check";
import {
  answerQuery,
  parseQuery,
  RCODE,
  TYPE,
} from "../../../../../../src/daemon/engine/system/network/dns-message.ts";

const lookUp = (name: string): string | null => (name === "box" ? "172.16.0.2" : null);

function query(name: string, type: number = TYPE.A, more: { edns?: boolean; qclass?: number } = {}): Uint8Array {
  const labels = name.split(".").flatMap((label) => [label.length, ...Buffer.from(label, "latin1")]);
  const { edns = false, qclass = 1 } = more;
  return Uint8Array.from([
    ...[0x12, 0x34, 0x01, 0x00, 0, 1, 0, 0, 0, 0, 0, edns ? 1 : 0],
    ...labels,
    ...[0, type >> 8, type & 0xff, qclass >> 8, qclass & 0xff],
    ...(edns ? [0, 0, 41, 0x10, 0, 0, 0, 0x80, 0, 0, 0] : []),
  ]);
}

const rcodeOf = (message: Uint8Array | null): number => (message?.[3] ?? 0xff) & 0xf;
const countOf = (message: Uint8Array | null): number => message?.[7] ?? -1;

test("a VM's address, byte for byte", () => {
  expect(Buffer.from(answerQuery(query("box.vm"), lookUp) ?? []).toString("hex")).toBe(
    "12348500000100010000000003626f7802766d0000010001c00c00010001000000050004ac100002",
  );
});

test("letter case of the question comes back and doesn't matter", () => {
  const answer = answerQuery(query("BoX.vM"), lookUp);
  expect(countOf(answer)).toBe(1);
  expect(Buffer.from(answer ?? []).toString("latin1")).toContain("\x03BoX\x02vM");
});

test("AAAA is empty, so nobody waits for it", () => {
  const answer = answerQuery(query("box.vm", TYPE.AAAA), lookUp);
  expect([rcodeOf(answer), countOf(answer)]).toEqual([RCODE.ok, 0]);
});

test("what isn't there, and what isn't ours", () => {
  expect(rcodeOf(answerQuery(query("other.vm"), lookUp))).toBe(RCODE.nameError);
  expect(rcodeOf(answerQuery(query("a.box.vm"), lookUp))).toBe(RCODE.nameError);
  expect(rcodeOf(answerQuery(query("example.com"), lookUp))).toBe(RCODE.refused);
  expect(rcodeOf(answerQuery(query("box"), lookUp))).toBe(RCODE.refused);
  expect(rcodeOf(answerQuery(query("box.vm", TYPE.A, { qclass: 3 }), lookUp))).toBe(RCODE.refused);
  const notify = query("box.vm");
  notify[2] = 0x20;
  expect(rcodeOf(answerQuery(notify, lookUp))).toBe(RCODE.notImplemented);
});

test("EDNS is answered with EDNS", () => {
  const answer = answerQuery(query("box.vm", TYPE.A, { edns: true }), lookUp);
  expect(Buffer.from(answer ?? []).toString("hex")).toEndWith("00002904d0000000000000");
  expect(answer?.[11]).toBe(1);
});

test("a label with a dot in it is not two labels", () => {
  const bytes = query("box_vm");
  bytes[12 + 4] = ".".charCodeAt(0);
  expect(parseQuery(bytes)?.name).toBe("box\\046vm");
  expect(rcodeOf(answerQuery(bytes, lookUp))).toBe(RCODE.refused);
});

test("a response is never answered: two servers must not talk to each other for ever", () => {
  const answer = answerQuery(query("box.vm"), lookUp);
  expect(answerQuery(answer ?? new Uint8Array(), lookUp)).toBeNull();
});

test("arbitrary bytes: no exception, and an answer of bounded size to the same id or none", () => {
  const nearly = fc
    .record({
      base: fc.constantFrom("box.vm", "x.vm", "a.b.c", `${"y".repeat(63)}.vm`),
      cut: fc.nat(60),
      flips: fc.array(fc.tuple(fc.nat(59), fc.nat(255)), { maxLength: 6 }),
      edns: fc.boolean(),
    })
    .map(({ base, cut, flips, edns }) => {
      const bytes = query(base, TYPE.A, { edns });
      for (const [at, value] of flips) if (at < bytes.length) bytes[at] = value;
      return bytes.subarray(0, Math.max(0, bytes.length - (cut > 40 ? cut - 40 : 0)));
    });
  fc.assert(
    fc.property(fc.oneof(fc.uint8Array({ maxLength: 600 }), nearly), (bytes) => {
      const answer = answerQuery(bytes, lookUp);
      if (answer === null) return true;
      return answer[0] === bytes[0] && answer[1] === bytes[1] && (answer[2] ?? 0) >= 0x80 && answer.length <= 320;
    }),
    { numRuns: 5000 },
  );
});
