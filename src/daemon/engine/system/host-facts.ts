/** What the engine reads of the host. */

import { existsSync, readFileSync } from "node:fs";
import { type KvmFacts, readKvmFacts } from "../acceleration.ts";
import type { NeedsFacts } from "./doctor.ts";
import { chooseNameServer, parseLocalAddresses } from "./network/addresses.ts";

export interface HostFacts {
  kvm(): KvmFacts;
  /** The text of /proc/net/route. */
  routes(): string;
  /** The text of /proc/cpuinfo. */
  cpus(): string;
  readonly needs: NeedsFacts;
}

export const thisHost: HostFacts = {
  kvm: readKvmFacts,
  routes: () => readFileSync("/proc/net/route", "utf8"),
  cpus: () => readFileSync("/proc/cpuinfo", "utf8"),
  needs: {
    hasFile: existsSync,
    hasModule: (name) => existsSync(`/sys/module/${name}`),
    devices: () => readFileSync("/proc/devices", "utf8"),
    misc: () => readFileSync("/proc/misc", "utf8"),
  },
};

export type HostKind = "hardware" | "nested" | "emulated";

/** What /proc/cpuinfo says of the machine. The flag `hypervisor` is CPUID's; the model's name is QEMU's own for TCG. */
export function hostKindOf(cpuinfo: string): HostKind {
  if (/^model name\s*:.*\bQEMU TCG\b/m.test(cpuinfo)) return "emulated";
  return /^flags\s*:.*\bhypervisor\b/m.test(cpuinfo) ? "nested" : "hardware";
}

/** The host's own name server, as far as guests reach it: the stub's upstreams where resolv.conf names a stub. */
export function readNameServer(): string | null {
  const files = ["/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"];
  return chooseNameServer(
    files.filter(existsSync).map((file) => readFileSync(file, "utf8")),
    parseLocalAddresses(readFileSync("/proc/net/fib_trie", "utf8")),
  );
}
