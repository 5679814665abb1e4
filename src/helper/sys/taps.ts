/** Tap interfaces by ioctl, because `ip tuntap` leaves a tap without an owner open to everybody. Source: kernel doc tuntap, linux/if_tun.h. */

import { readFileSync, writeSync } from "node:fs";
import { addressOf, check, errno, libc } from "./libc.ts";
import { type Descriptor, openDevice } from "./descriptors.ts";
import { openDatagramSocket } from "./sockets.ts";

const TUNSETIFF = 0x400454ca;
const TUNSETPERSIST = 0x400454cb;
const TUNSETOWNER = 0x400454cc;
const TUNGETVNETHDRSZ = 0x800454d7;
export const IFF_TAP = 0x0002;
const IFF_NO_PI = 0x1000;
/** Firecracker opens its tap with this flag, so the tap has it from the start. */
const IFF_VNET_HDR = 0x4000;
const SIOCGIFFLAGS = 0x8913;
const SIOCSIFFLAGS = 0x8914;
const SIOCBRADDIF = 0x89a2;
const IFF_UP = 0x1;
const IFNAMSIZ = 16;
const IFREQ_BYTES = 40;

/** struct ifreq with the name of an interface and nothing else yet. */
function interfaceRequest(name: string): { readonly request: Uint8Array; readonly view: DataView } {
  const request = new Uint8Array(IFREQ_BYTES);
  const bytes = new TextEncoder().encode(name);
  if (bytes.length >= IFNAMSIZ) throw new Error(`an interface's name is shorter than ${IFNAMSIZ} bytes: ${name}`);
  request.set(bytes);
  return { request, view: new DataView(request.buffer) };
}

/** Makes the tap if it isn't there, or takes the one that is. EBUSY while a VMM has it open. */
function openTap(name: string): Descriptor {
  const tun = openDevice("/dev/net/tun", false);
  const { request, view } = interfaceRequest(name);
  view.setUint16(IFNAMSIZ, IFF_TAP | IFF_NO_PI | IFF_VNET_HDR, true);
  try {
    check("ioctl", `TUNSETIFF, ${name}`, libc.ioctl(tun.fd, BigInt(TUNSETIFF), addressOf(request)), errno());
  } catch (thrown) {
    tun[Symbol.dispose]();
    throw thrown;
  }
  return tun;
}

/**
 * Makes sure the tap exists, outlives this process, and may be opened by that uid alone (and root). The owner is set
 * before the tap persists: there is no instant at which a tap has none, which would let any local user open it.
 */
export function giveTap(name: string, uid: number): void {
  using tap = openTap(name);
  check("ioctl", `TUNSETOWNER, ${name}, ${uid}`, libc.ioctl(tap.fd, BigInt(TUNSETOWNER), uid), errno());
  check("ioctl", `TUNSETPERSIST, ${name}, 1`, libc.ioctl(tap.fd, BigInt(TUNSETPERSIST), 1), errno());
}

/** Makes the tap, which is on no bridge, a port of one, and sets it up. Source: netdevice(7), linux/if_bridge.h. */
export function plugTap(name: string, bridge: string): void {
  using socket = openDatagramSocket();
  const ask = (call: string, number: number, request: Uint8Array): void => {
    check("ioctl", `${call}, ${name}`, libc.ioctl(socket.fd, BigInt(number), addressOf(request)), errno());
  };
  const port = interfaceRequest(bridge);
  port.view.setInt32(IFNAMSIZ, Number(readFileSync(`/sys/class/net/${name}/ifindex`, "utf8")), true);
  ask("SIOCBRADDIF", SIOCBRADDIF, port.request);
  const flags = interfaceRequest(name);
  ask("SIOCGIFFLAGS", SIOCGIFFLAGS, flags.request);
  flags.view.setUint16(IFNAMSIZ, flags.view.getUint16(IFNAMSIZ, true) | IFF_UP, true);
  ask("SIOCSIFFLAGS", SIOCSIFFLAGS, flags.request);
}

/** Removes the tap: EBUSY while a VMM has it open, where deleting the interface would cut it off. */
export function dropTap(name: string): void {
  using tap = openTap(name);
  check("ioctl", `TUNSETPERSIST, ${name}, 0`, libc.ioctl(tap.fd, BigInt(TUNSETPERSIST), 0), errno());
}

/** A tap held open as a VMM holds it: nobody else may open it meanwhile, and its link is up. */
export interface HeldTap extends Disposable {
  /** Sends one Ethernet frame into the bridge, as from a guest. */
  send(frame: Uint8Array): void;
}

/** Takes a tap that is there. EBUSY while a VMM has it open. */
export function holdTap(name: string): HeldTap {
  const tap = openTap(name);
  return {
    send: (frame) => {
      const size = new Uint8Array(4);
      check("ioctl", `TUNGETVNETHDRSZ, ${name}`, libc.ioctl(tap.fd, BigInt(TUNGETVNETHDRSZ), addressOf(size)), errno());
      // A virtio-net header of zeros: checksums are done, nothing is to be cut up. A VMM may have asked for the longer form.
      const header = new Uint8Array(new DataView(size.buffer).getUint32(0, true));
      writeSync(tap.fd, Buffer.concat([header, frame]));
    },
    [Symbol.dispose]: () => tap[Symbol.dispose](),
  };
}
