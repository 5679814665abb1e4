/**
 * DNS messages, as far as a server of one zone needs them. Pure; anyone on this host may send one.
 * Source: RFC 1035, RFC 6891.
 *
 * By hand, because `dns-packet` 5.6.1 reads the label `box.vm` as the two labels of a VM's name, decodes names as UTF-8
 * so that the question can't be sent back as it came, follows pointers, and decodes dozens of record types.
 * test/property/dns-message.test.ts compares the two.
 */

export const TYPE = { A: 1, AAAA: 28, OPT: 41, ANY: 255 } as const;
export const RCODE = { ok: 0, formatError: 1, nameError: 3, notImplemented: 4, refused: 5 } as const;

const CLASS_IN = 1;
const HEADER_BYTES = 12;
/** RFC 1035, 2.3.4: with the final zero. */
const NAME_LIMIT_BYTES = 255;
/** A record of the root's name without data: the name's zero byte, type, class, TTL, length. */
const RECORD_BYTES = 11;
/** What one may send over any path without it being cut to pieces (DNS flag day 2020). */
const UDP_PAYLOAD_BYTES = 1232;
/** A guest's address changes with the guest, which takes seconds. */
const TTL_SECONDS = 5;

export interface Query {
  readonly id: number;
  readonly recursionDesired: boolean;
  readonly opcode: number;
  /** Lower case, without the final dot; labels hold what the client sent, dots as `\046`. */
  readonly name: string;
  readonly type: number;
  readonly qclass: number;
  /** The question as it came, to be sent back: resolvers compare its letter case. */
  readonly question: Uint8Array;
  readonly hasEdns: boolean;
}

/** A query of one question; null for what isn't one, to which no answer is the only safe one. */
export function parseQuery(message: Uint8Array): Query | null {
  if (message.length < HEADER_BYTES) return null;
  const view = new DataView(message.buffer, message.byteOffset, message.byteLength);
  const flags = view.getUint16(2);
  const isResponse = (flags & 0x8000) !== 0;
  if (isResponse || view.getUint16(4) !== 1) return null;
  const labels: string[] = [];
  let at = HEADER_BYTES;
  for (;;) {
    const length = message[at];
    // Two high bits set is a pointer; a question has nothing to point to.
    if (length === undefined || length > 63) return null;
    at++;
    if (length === 0) break;
    const label = message.subarray(at, at + length);
    if (label.length !== length) return null;
    at += length;
    if (at - HEADER_BYTES >= NAME_LIMIT_BYTES) return null;
    labels.push(Buffer.from(label).toString("latin1").replaceAll(".", "\\046").toLowerCase());
  }
  if (at + 4 > message.length) return null;
  const type = view.getUint16(at);
  const qclass = view.getUint16(at + 2);
  const end = at + 4;
  // The OPT record's name is the root, one zero byte. If other records stand before it, it is not looked for.
  const onlyAdditional = view.getUint16(6) === 0 && view.getUint16(8) === 0 && view.getUint16(10) > 0;
  if (onlyAdditional && message.length < end + RECORD_BYTES) return null;
  const hasEdns = onlyAdditional && message[end] === 0 && view.getUint16(end + 1) === TYPE.OPT;
  if (hasEdns && message.length < end + RECORD_BYTES + view.getUint16(end + 9)) return null;
  return {
    id: view.getUint16(0),
    recursionDesired: (flags & 0x0100) !== 0,
    opcode: (flags >> 11) & 0xf,
    name: labels.join("."),
    type,
    qclass,
    question: message.slice(HEADER_BYTES, end),
    hasEdns,
  };
}

/** The authoritative answer to a query: addresses (four bytes each), or none with a code that says why. */
export function formatAnswer(query: Query, rcode: number, addresses: readonly Uint8Array[]): Uint8Array {
  const answerBytes = addresses.length * 16;
  const message = new Uint8Array(
    HEADER_BYTES + query.question.length + answerBytes + (query.hasEdns ? RECORD_BYTES : 0),
  );
  const view = new DataView(message.buffer);
  view.setUint16(0, query.id);
  const isAuthoritative = rcode === RCODE.ok || rcode === RCODE.nameError;
  view.setUint16(
    2,
    0x8000 | (query.opcode << 11) | (isAuthoritative ? 0x0400 : 0) | (query.recursionDesired ? 0x0100 : 0) | rcode,
  );
  view.setUint16(4, 1);
  view.setUint16(6, addresses.length);
  view.setUint16(10, query.hasEdns ? 1 : 0);
  message.set(query.question, HEADER_BYTES);
  let at = HEADER_BYTES + query.question.length;
  for (const address of addresses) {
    // A pointer to the question's name.
    view.setUint16(at, 0xc000 | HEADER_BYTES);
    view.setUint16(at + 2, TYPE.A);
    view.setUint16(at + 4, CLASS_IN);
    view.setUint32(at + 6, TTL_SECONDS);
    view.setUint16(at + 10, 4);
    message.set(address, at + 12);
    at += 16;
  }
  if (query.hasEdns) {
    view.setUint16(at + 1, TYPE.OPT);
    view.setUint16(at + 3, UDP_PAYLOAD_BYTES);
  }
  return message;
}

/**
 * What a server of the zone `vm.` answers. `lookUp` knows the address of a VM by its name, null when none runs under it.
 * Null: the message deserves no answer.
 */
export function answerQuery(message: Uint8Array, lookUp: (name: string) => string | null): Uint8Array | null {
  const query = parseQuery(message);
  if (query === null) return null;
  if (query.opcode !== 0) return formatAnswer(query, RCODE.notImplemented, []);
  if (query.qclass !== CLASS_IN) return formatAnswer(query, RCODE.refused, []);
  if (query.name === "vm") return formatAnswer(query, RCODE.ok, []);
  const host = /^([a-z0-9-]{1,63})\.vm$/.exec(query.name)?.[1];
  if (host === undefined) {
    return formatAnswer(query, query.name.endsWith(".vm") ? RCODE.nameError : RCODE.refused, []);
  }
  const address = lookUp(host);
  if (address === null) return formatAnswer(query, RCODE.nameError, []);
  const wantsAddress = query.type === TYPE.A || query.type === TYPE.ANY;
  return formatAnswer(query, RCODE.ok, wantsAddress ? [Uint8Array.from(address.split(".").map(Number))] : []);
}
