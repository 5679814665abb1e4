/** Reads an interface's IPv4 address and sets fixed neighbours, by ioctl. Source: netdevice(7), arp(7). */

import { isErrno } from "../../shared/errors.ts";
import { addressOf, check, errno, libc } from "./libc.ts";
import type { Descriptor } from "./descriptors.ts";
import { openInternetSocket } from "./sockets.ts";

const SIOCGIFADDR = 0x8915;
const SIOCGIFNETMASK = 0x891b;
const SIOCDARP = 0x8953;
const SIOCSARP = 0x8955;
const IFNAMSIZ = 16;
const IFREQ_BYTES = 40;
const AF_INET = 2;
const ARPHRD_ETHER = 1;
/** The entry is complete and permanent: ARP doesn't change it. */
const ATF_COM_PERM = 0x02 | 0x04;
const ARPREQ = { bytes: 68, hardwareAddress: 16, flags: 32, device: 52 } as const;

/** A struct ifreq that contains only an interface's name. */
export function interfaceRequest(name: string): { readonly request: Uint8Array; readonly view: DataView } {
  const request = new Uint8Array(IFREQ_BYTES);
  const bytes = new TextEncoder().encode(name);
  if (bytes.length >= IFNAMSIZ) throw new Error(`an interface's name is shorter than ${IFNAMSIZ} bytes: ${name}`);
  request.set(bytes);
  return { request, view: new DataView(request.buffer) };
}

function ask(socket: Descriptor, call: string, number: number, operand: string, request: Uint8Array): void {
  check("ioctl", `${call}, ${operand}`, libc.ioctl(socket.fd, BigInt(number), addressOf(request)), errno());
}

/** Reads an interface's first IPv4 address as `a.b.c.d/n`; null if it has none. */
export function readIpv4Address(name: string): string | null {
  using socket = openInternetSocket();
  const read = (call: string, number: number): Uint8Array => {
    const { request } = interfaceRequest(name);
    ask(socket, call, number, name, request);
    // struct sockaddr_in: family, port, address.
    return request.slice(IFNAMSIZ + 4, IFNAMSIZ + 8);
  };
  try {
    const address = read("SIOCGIFADDR", SIOCGIFADDR).join(".");
    const prefix = [...read("SIOCGIFNETMASK", SIOCGIFNETMASK)]
      .map((byte) => byte.toString(2).replaceAll("0", "").length)
      .reduce((sum, bits) => sum + bits, 0);
    return `${address}/${prefix}`;
  } catch (thrown) {
    if (isErrno(thrown, "EADDRNOTAVAIL") || isErrno(thrown, "ENODEV")) return null;
    throw thrown;
  }
}

/** struct arpreq. */
function arpRequest(device: string, address: string): Uint8Array {
  const request = new Uint8Array(ARPREQ.bytes);
  new DataView(request.buffer).setUint16(0, AF_INET, true);
  request.set(address.split(".").map(Number), 4);
  request.set(new TextEncoder().encode(device), ARPREQ.device);
  return request;
}

/** Fixes the MAC address of an address on that device. */
export function fixNeighbour(device: string, address: string, mac: string): void {
  using socket = openInternetSocket();
  const request = arpRequest(device, address);
  const view = new DataView(request.buffer);
  view.setUint16(ARPREQ.hardwareAddress, ARPHRD_ETHER, true);
  request.set(
    mac.split(":").map((part) => Number.parseInt(part, 16)),
    ARPREQ.hardwareAddress + 2,
  );
  view.setInt32(ARPREQ.flags, ATF_COM_PERM, true);
  ask(socket, "SIOCSARP", SIOCSARP, `${address}, ${mac}`, request);
}

/** Undoes {@link fixNeighbour}. A missing entry is not an error. */
export function forgetNeighbour(device: string, address: string): void {
  using socket = openInternetSocket();
  try {
    ask(socket, "SIOCDARP", SIOCDARP, address, arpRequest(device, address));
  } catch (thrown) {
    if (!isErrno(thrown, "ENXIO") && !isErrno(thrown, "ENOENT") && !isErrno(thrown, "ENODEV")) throw thrown;
  }
}
