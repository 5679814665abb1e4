/** Ethernet frames as a hostile guest's root would write them. Source: RFC 791, RFC 792, RFC 826, IEEE 802.1Q. */

import { encodeDatagram, internetChecksum } from "../../src/helper/network/probe-frame.ts";

export const BROADCAST = "ff:ff:ff:ff:ff:ff";

export interface Ends {
  readonly sourceMac: string;
  readonly targetMac: string;
  readonly sourceIp: string;
  readonly targetIp: string;
}

const macBytes = (mac: string): readonly number[] => mac.split(":").map((part) => Number.parseInt(part, 16));
const ipBytes = (ip: string): readonly number[] => ip.split(".").map(Number);

export const udp = (ends: Ends, targetPort: number, sourcePort = 40_000): Uint8Array =>
  encodeDatagram({ ...ends, targetPort, sourcePort });

/** Updates the header's checksum after a change. */
function sealIp(frame: Uint8Array): Uint8Array {
  const bytes = ((frame[14] ?? 0) & 0xf) * 4;
  frame.set([0, 0], 24);
  new DataView(frame.buffer).setUint16(24, internetChecksum(frame.subarray(14, 14 + bytes)));
  return frame;
}

/** The same packet with another protocol's payload. */
function ipWith(ends: Ends, protocol: number, payload: Uint8Array): Uint8Array {
  const frame = new Uint8Array(34 + payload.length);
  frame.set(udp(ends, 9).subarray(0, 34));
  frame.set(payload, 34);
  const view = new DataView(frame.buffer);
  view.setUint16(16, 20 + payload.length);
  view.setUint8(22, 64);
  view.setUint8(23, protocol);
  return sealIp(frame);
}

export function ping(ends: Ends, sequence: number): Uint8Array {
  const message = new Uint8Array(16);
  const view = new DataView(message.buffer);
  message[0] = 8;
  view.setUint16(4, 0xba96);
  view.setUint16(6, sequence);
  view.setUint16(2, internetChecksum(message));
  return ipWith(ends, 1, message);
}

export function syn(ends: Ends, targetPort: number, sourcePort: number): Uint8Array {
  const segment = new Uint8Array(20);
  const view = new DataView(segment.buffer);
  view.setUint16(0, sourcePort);
  view.setUint16(2, targetPort);
  view.setUint32(4, 1);
  segment.set([0x50, 0x02, 0xff, 0xff], 12);
  const pseudo = new Uint8Array([...ipBytes(ends.sourceIp), ...ipBytes(ends.targetIp), 0, 6, 0, 20]);
  view.setUint16(16, internetChecksum(Buffer.concat([pseudo, segment])));
  return ipWith(ends, 6, segment);
}

/** An ARP request, or an unsolicited answer. */
export function arp(
  ends: Ends,
  claimed: { readonly mac: string; readonly ip: string },
  operation: 1 | 2 = 1,
): Uint8Array {
  return new Uint8Array([
    ...macBytes(ends.targetMac),
    ...macBytes(ends.sourceMac),
    ...[0x08, 0x06, 0, 1, 8, 0, 6, 4, 0, operation],
    ...macBytes(claimed.mac),
    ...ipBytes(claimed.ip),
    ...[0, 0, 0, 0, 0, 0],
    ...ipBytes(ends.targetIp),
    ...new Uint8Array(18),
  ]);
}

/** The frame with these tags, the outermost first. */
export function tagged(frame: Uint8Array, ...tags: readonly (readonly [type: number, vlan: number])[]): Uint8Array {
  const words = tags.flatMap(([type, vlan]) => [type >> 8, type & 0xff, vlan >> 8, vlan & 0xff]);
  return new Uint8Array([...frame.subarray(0, 12), ...words, ...frame.subarray(12)]);
}

/** The packet as a fragment; `offset` is in units of 8 bytes. */
export function fragment(frame: Uint8Array, offset: number, more: boolean): Uint8Array {
  const copy = frame.slice();
  new DataView(copy.buffer).setUint16(20, (more ? 0x2000 : 0) | offset);
  return sealIp(copy);
}

/** The packet with a loose source route through that gateway. */
export function sourceRouted(frame: Uint8Array, via: string): Uint8Array {
  const option = [0x83, 7, 4, ...ipBytes(via), 0];
  const longer = new Uint8Array([...frame.subarray(0, 34), ...option, ...frame.subarray(34)]);
  longer[14] = 0x47;
  const view = new DataView(longer.buffer);
  view.setUint16(16, view.getUint16(16) + option.length);
  return sealIp(longer);
}

/** The headers of an IPv6 neighbour solicitation, enough for filters that check the type. */
export function ipv6(ends: Pick<Ends, "sourceMac" | "targetMac">): Uint8Array {
  const frame = new Uint8Array(14 + 40 + 24);
  frame.set(macBytes(ends.targetMac), 0);
  frame.set(macBytes(ends.sourceMac), 6);
  frame.set([0x86, 0xdd, 0x60, 0, 0, 0, 0, 24, 58, 255, 0xfe, 0x80], 12);
  frame[37] = 2;
  frame.set([0xff, 0x02], 38);
  frame[53] = 1;
  return frame;
}
