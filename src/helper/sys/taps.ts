/**
 * Tap interfaces by ioctl, because `ip tuntap` lets everyone open a tap without an owner. Source: kernel doc tuntap,
 * linux/if_tun.h.
 */

import { readFileSync, writeFileSync, writeSync } from "node:fs";
import { BangerError } from "../../shared/errors.ts";
import { readMark } from "../../shared/network/walls.ts";
import { type Descriptor, openDevice } from "./descriptors.ts";
import { interfaceRequest } from "./interfaces.ts";
import { addressOf, check, errno, libc } from "./libc.ts";
import { openDatagramSocket } from "./sockets.ts";

const TUNSETIFF = 0x400454ca;
const TUNSETPERSIST = 0x400454cb;
const TUNSETOWNER = 0x400454cc;
const TUNGETVNETHDRSZ = 0x800454d7;
export const IFF_TAP = 0x0002;
const IFF_NO_PI = 0x1000;
/** Firecracker opens its tap with this flag, so the tap is made with it. */
const IFF_VNET_HDR = 0x4000;
const SIOCGIFFLAGS = 0x8913;
const SIOCSIFFLAGS = 0x8914;
const SIOCBRADDIF = 0x89a2;
const IFF_UP = 0x1;
const IFNAMSIZ = 16;
export const ROOT_UID = 0;

/** Makes the tap, or opens the existing one. Fails with EBUSY while a VMM has it open. */
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

const setOwner = (tap: Descriptor, name: string, uid: number): void => {
  check("ioctl", `TUNSETOWNER, ${name}, ${uid}`, libc.ioctl(tap.fd, BigInt(TUNSETOWNER), uid), errno());
};
const setPersistent = (tap: Descriptor, name: string, on: 0 | 1): void => {
  check("ioctl", `TUNSETPERSIST, ${name}, ${on}`, libc.ioctl(tap.fd, BigInt(TUNSETPERSIST), on), errno());
};

/**
 * Opens an existing tap made by {@link makeTap}. Opening a missing tap makes it; such a tap must not stay, as it has no
 * wall.
 */
function openOwnTap(name: string): Descriptor {
  const tap = openTap(name);
  if (readMark(readAlias(name))?.kind === "tap") return tap;
  // A tap made by opening disappears with the descriptor.
  tap[Symbol.dispose]();
  throw new BangerError("FAILED", `${name} is not a banger tap`);
}

const readAlias = (name: string): string => readFileSync(`/sys/class/net/${name}/ifalias`, "utf8").trim();
/** Marks an interface as banger's. Source: kernel doc ABI/testing/sysfs-class-net. */
export const setAlias = (name: string, alias: string): void => writeFileSync(`/sys/class/net/${name}/ifalias`, alias);

/**
 * Makes a tap that only root may open. It outlives this process only once `prepare` has finished: at no instant does it
 * exist without an owner, its mark and what `prepare` adds while someone else could open it.
 */
export async function makeTap(name: string, alias: string, prepare: () => Promise<void>): Promise<void> {
  using tap = openTap(name);
  setOwner(tap, name, ROOT_UID);
  setAlias(name, alias);
  await prepare();
  setPersistent(tap, name, 1);
}

/** Lets only that uid (and root) open the tap from now on. Fails with EBUSY while it is open. */
export function giveTap(name: string, uid: number): void {
  using tap = openOwnTap(name);
  setOwner(tap, name, uid);
}

/** Makes the tap, which is on no bridge, a port of one and brings it up. Source: netdevice(7), linux/if_bridge.h. */
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

/** Removes the tap. Fails with EBUSY while a VMM has it open; deleting the interface would cut the VMM off. */
export function dropTap(name: string): void {
  using tap = openTap(name);
  setPersistent(tap, name, 0);
}

/** A tap held open as a VMM holds it: nobody else can open it meanwhile, and its link is up. */
export interface HeldTap extends Disposable {
  /** Sends one Ethernet frame into the bridge, as a guest would. */
  send(frame: Uint8Array): void;
}

/** Opens and holds an existing tap. Fails with EBUSY while a VMM has it open. */
export function holdTap(name: string): HeldTap {
  const tap = openOwnTap(name);
  return {
    send: (frame) => {
      const size = new Uint8Array(4);
      check("ioctl", `TUNGETVNETHDRSZ, ${name}`, libc.ioctl(tap.fd, BigInt(TUNGETVNETHDRSZ), addressOf(size)), errno());
      // A virtio-net header of zeros: no checksum or segmentation is left to do. A VMM may have asked for the longer
      // form.
      const header = new Uint8Array(new DataView(size.buffer).getUint32(0, true));
      writeSync(tap.fd, Buffer.concat([header, frame]));
    },
    [Symbol.dispose]: () => tap[Symbol.dispose](),
  };
}
