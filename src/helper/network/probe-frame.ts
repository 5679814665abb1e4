/** Encodes the frame that `probe_nat` sends: Ethernet, IPv4, UDP. Pure. Source: RFC 791, RFC 768, RFC 1071. */

import { parseIpv4 } from "../../shared/network/ipv4.ts";

const ETHERTYPE_IPV4 = 0x0800;
const PROTOCOL_UDP = 17;
const ETHERNET_BYTES = 14;
const IPV4_BYTES = 20;
const UDP_BYTES = 8;
/** This host forwards it once and the next router drops it, so no router further away sees it. */
const TTL = 2;
/** Long enough that no frame needs padding. Tells anyone who captures it what it is. */
const PAYLOAD = new TextEncoder().encode("banger doctor: does NAT work here?");

export interface Datagram {
  /** Written like `06:00:ac:10:00:02`. */
  readonly sourceMac: string;
  readonly targetMac: string;
  readonly sourceIp: string;
  readonly targetIp: string;
  readonly sourcePort: number;
  readonly targetPort: number;
}

/** The internet checksum: ones' complement of the ones' complement sum of 16-bit words (RFC 1071). */
export function internetChecksum(bytes: Uint8Array): number {
  let sum = 0;
  for (let at = 0; at < bytes.length; at += 2) sum += ((bytes[at] ?? 0) << 8) | (bytes[at + 1] ?? 0);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  return ~sum & 0xffff;
}

function macBytes(mac: string): readonly number[] {
  if (!/^[0-9a-f]{2}(?::[0-9a-f]{2}){5}$/i.test(mac)) throw new Error(`${mac} is not a MAC address`);
  return mac.split(":").map((part) => Number.parseInt(part, 16));
}

function ipv4Number(address: string): number {
  const value = parseIpv4(address);
  if (value === null) throw new Error(`${address} is not an IPv4 address`);
  return value;
}

/** @throws Error if an address is invalid */
export function encodeDatagram(datagram: Datagram): Uint8Array {
  const { sourceMac, targetMac, sourcePort, targetPort } = datagram;
  const [source, target] = [ipv4Number(datagram.sourceIp), ipv4Number(datagram.targetIp)];
  const udpLength = UDP_BYTES + PAYLOAD.length;
  const frame = new Uint8Array(ETHERNET_BYTES + IPV4_BYTES + udpLength);
  const view = new DataView(frame.buffer);
  frame.set(macBytes(targetMac), 0);
  frame.set(macBytes(sourceMac), 6);
  view.setUint16(12, ETHERTYPE_IPV4);

  const ip = ETHERNET_BYTES;
  view.setUint8(ip, 0x45);
  view.setUint16(ip + 2, IPV4_BYTES + udpLength);
  view.setUint8(ip + 8, TTL);
  view.setUint8(ip + 9, PROTOCOL_UDP);
  view.setUint32(ip + 12, source);
  view.setUint32(ip + 16, target);
  view.setUint16(ip + 10, internetChecksum(frame.subarray(ip, ip + IPV4_BYTES)));

  const udp = ip + IPV4_BYTES;
  view.setUint16(udp, sourcePort);
  view.setUint16(udp + 2, targetPort);
  view.setUint16(udp + 4, udpLength);
  frame.set(PAYLOAD, udp + UDP_BYTES);
  const pseudoHeader = new Uint8Array(12);
  const pseudo = new DataView(pseudoHeader.buffer);
  pseudo.setUint32(0, source);
  pseudo.setUint32(4, target);
  pseudo.setUint8(9, PROTOCOL_UDP);
  pseudo.setUint16(10, udpLength);
  // Zero would mean "no checksum".
  view.setUint16(udp + 6, internetChecksum(Buffer.concat([pseudoHeader, frame.subarray(udp)])) || 0xffff);
  return frame;
}
