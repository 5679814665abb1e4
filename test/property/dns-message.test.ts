/** The DNS codec against `dns-packet`: they agree on every message, and where they don't, ours is the stricter. */

import { expect, test } from "bun:test";
import { type DecodedPacket, decode, encode, type RecordType } from "dns-packet";
import fc from "fast-check";
import {
  answerQuery,
  formatAnswer,
  parseQuery,
  type Query,
  RCODE,
  TYPE,
} from "../../src/daemon/engine/system/network/dns-message.ts";

const RUNS = { numRuns: 3000 };
const HEADER_BYTES = 12;
const RECURSION_DESIRED = 0x0100;

const label = fc.oneof(
  fc.constantFrom("vm", "VM", "box", "localhost", "x".repeat(63), "y".repeat(61), "z".repeat(62)),
  fc.stringMatching(/^[a-zA-Z0-9-]{1,63}$/),
);
const question = fc.record({
  labels: fc.array(label, { minLength: 1, maxLength: 5 }),
  type: fc.constantFrom("A" as const, "AAAA" as const, "ANY" as const, "MX" as const, "TXT" as const),
  id: fc.nat(0xffff),
  recursionDesired: fc.boolean(),
  edns: fc.boolean(),
});
type Asked = typeof question extends fc.Arbitrary<infer T> ? T : never;

function encodeQuery({ labels, type, id, recursionDesired, edns }: Asked): Uint8Array {
  return encode({
    type: "query",
    id,
    flags: recursionDesired ? RECURSION_DESIRED : 0,
    questions: [{ type: type as RecordType, class: "IN", name: labels.join(".") }],
    additionals: edns
      ? [
          {
            type: "OPT",
            name: ".",
            udpPayloadSize: 4096,
            extendedRcode: 0,
            ednsVersion: 0,
            flags: 0,
            flag_do: false,
            options: [],
          },
        ]
      : [],
  });
}

/** What the library reads; null when it refuses, or counts bytes that the message doesn't have. */
function decodeOrNull(message: Uint8Array): DecodedPacket | null {
  try {
    const packet = decode(Buffer.from(message));
    return decode.bytes <= message.length ? packet : null;
  } catch {
    return null;
  }
}

/** The header and the question that ours read, as a message of their own: the library reads what follows too. */
function questionAlone(message: Uint8Array, query: Query): Uint8Array {
  const alone = Uint8Array.from([...message.subarray(0, HEADER_BYTES), ...query.question]);
  alone.fill(0, 6, HEADER_BYTES);
  return alone;
}

/** True if a label of the question's name is a pointer, or of another kind that no question has. */
function hasPointer(message: Uint8Array): boolean {
  let at = HEADER_BYTES;
  for (let length = message[at] ?? 0; length !== 0; length = message[at] ?? 0) {
    if (length > 63) return true;
    at += 1 + length;
  }
  return false;
}

const typeNames = Object.entries(TYPE);

function expectSameReading(query: Query, theirs: DecodedPacket): void {
  const asked = theirs.questions?.[0];
  expect(theirs.type).toBe("query");
  expect([theirs.id, theirs.flag_rd, theirs.questions?.length]).toEqual([query.id, query.recursionDesired, 1]);
  for (const [name, number] of typeNames) expect(asked?.type === name).toBe(query.type === number);
  expect(asked?.class === "IN").toBe(query.qclass === 1);
  // Only of plain names does the library give back what was asked: it decodes bytes as UTF-8, and loses where labels end.
  if (/^[a-z0-9.-]+$/.test(query.name)) expect(asked?.name.toLowerCase()).toBe(query.name);
}

test("what the library asks is read as it was asked, or its name is too long", () => {
  fc.assert(
    fc.property(question, (asked) => {
      const message = encodeQuery(asked);
      const query = parseQuery(message);
      const nameBytes = asked.labels.reduce((sum, one) => sum + one.length + 1, 1);
      // RFC 1035, 2.3.4: 255 octets, the final zero among them.
      expect(query === null).toBe(nameBytes > 255);
      if (query === null) return;
      expect(query).toMatchObject({
        id: asked.id,
        name: asked.labels.join(".").toLowerCase(),
        recursionDesired: asked.recursionDesired,
        opcode: 0,
        qclass: 1,
        hasEdns: asked.edns,
      });
      expectSameReading(query, decode(Buffer.from(message)));
    }),
    RUNS,
  );
});

/** Queries as they are, cut, with bytes changed; and bytes that are no query. */
const hostile = fc.oneof(
  { weight: 1, arbitrary: fc.uint8Array({ maxLength: 600 }) },
  {
    weight: 4,
    arbitrary: fc
      .record({
        asked: question,
        changes: fc.array(fc.tuple(fc.nat(80), fc.nat(255)), { maxLength: 4 }),
        cut: fc.option(fc.nat(80)),
        tail: fc.uint8Array({ maxLength: 20 }),
      })
      .map(({ asked, changes, cut, tail }) => {
        const message = Uint8Array.from([...encodeQuery(asked), ...tail]);
        for (const [at, byte] of changes) if (at < message.length) message[at] = byte;
        return cut === null ? message : message.subarray(0, cut);
      }),
  },
);

test("what ours accepts, the library reads the same", () => {
  fc.assert(
    fc.property(hostile, (message) => {
      const query = parseQuery(message);
      if (query !== null) expectSameReading(query, decode(Buffer.from(questionAlone(message, query))));
    }),
    RUNS,
  );
});

test("what the library accepts, ours does too, but for responses, several questions and pointers", () => {
  fc.assert(
    fc.property(hostile, (message) => {
      const theirs = decodeOrNull(message);
      const isQuery = theirs?.type === "query" && theirs.questions?.length === 1 && !hasPointer(message);
      if (isQuery) expect(parseQuery(message)).not.toBeNull();
    }),
    RUNS,
  );
});

test("a query that is cut short is none, wherever it is cut", () => {
  fc.assert(
    fc.property(question, (asked) => {
      const message = encodeQuery(asked);
      for (let length = 0; length < message.length; length++)
        expect(parseQuery(message.subarray(0, length))).toBeNull();
    }),
    { numRuns: 200 },
  );
});

test("a name of 255 bytes is the longest", () => {
  const named = (last: number): Uint8Array =>
    encodeQuery({
      labels: [63, 63, 63, last].map((length) => "a".repeat(length)),
      type: "A",
      id: 1,
      recursionDesired: true,
      edns: false,
    });
  expect(parseQuery(named(61))).not.toBeNull();
  expect(parseQuery(named(62))).toBeNull();
  expect(decodeOrNull(named(62))).toBeNull();
});

test("the library takes a dot in a label for its end, ours doesn't", () => {
  const message = encodeQuery({ labels: ["box_vm"], type: "A", id: 1, recursionDesired: true, edns: false });
  message[HEADER_BYTES + 4] = ".".charCodeAt(0);
  expect(decodeOrNull(message)?.questions?.[0]?.name).toBe("box.vm");
  expect(parseQuery(message)?.name).toBe("box\\046vm");
});

test("the library reads our answers as they are meant", () => {
  const address = fc.ipV4();
  fc.assert(
    fc.property(
      question,
      fc.array(address, { maxLength: 3 }),
      fc.constantFrom(...Object.values(RCODE)),
      (asked, addresses, rcode) => {
        const query = parseQuery(encodeQuery(asked));
        if (query === null) return;
        const bytes = addresses.map((one) => Uint8Array.from(one.split(".").map(Number)));
        const answer = decode(Buffer.from(formatAnswer(query, rcode, bytes)));
        expect(answer).toMatchObject({
          type: "response",
          id: asked.id,
          flag_rd: asked.recursionDesired,
          flag_aa: rcode === RCODE.ok || rcode === RCODE.nameError,
          flag_ra: false,
          flag_tc: false,
        });
        expect((answer.flags ?? 0) & 0xf).toBe(rcode);
        expect(answer.questions).toEqual([
          { type: asked.type as RecordType, class: "IN", name: asked.labels.join(".") },
        ]);
        expect(answer.answers?.map((one) => "data" in one && one.data)).toEqual(addresses);
        for (const one of answer.answers ?? [])
          expect(one).toMatchObject({ type: "A", class: "IN", name: asked.labels.join(".") });
        expect(answer.additionals?.map((one) => one.type)).toEqual(asked.edns ? ["OPT"] : []);
      },
    ),
    RUNS,
  );
});

test("every answer to hostile bytes is one that the library can read, to the same question", () => {
  fc.assert(
    fc.property(hostile, (message) => {
      const answer = answerQuery(message, (name) => (name.startsWith("x") ? null : "172.16.0.2"));
      if (answer === null) return;
      const read = decode(Buffer.from(answer));
      expect([read.type, read.id, read.questions?.length]).toEqual([
        "response",
        (message[0] ?? 0) * 256 + (message[1] ?? 0),
        1,
      ]);
    }),
    RUNS,
  );
});
