/** Doctor's rows of the installed system, from what was found. Pure. */

import type { BangerError } from "../../../shared/errors.ts";
import type { HelperOutputOf } from "../../../shared/contract/helper-api.ts";
import {
  type Feature,
  HELPER_TOOLS,
  type HelperTool,
  KERNEL_MODULES,
  type KernelModule,
} from "../../../shared/host-needs.ts";
import type { DoctorRow } from "../../../shared/contract/schemas.ts";
import type { Network } from "./network/addresses.ts";

/** What a host has of what the helper needs. */
export interface NeedsFacts {
  /** Whether there is a file of that path. */
  hasFile(path: string): boolean;
  /** Whether /sys/module has it. */
  hasModule(name: string): boolean;
  /** The text of /proc/devices. */
  devices(): string;
  /** The text of /proc/misc. */
  misc(): string;
}

/** Both files have lines of a number and a driver's name (proc(5)). */
const hasDriver = (table: string, driver: string): boolean =>
  table.split("\n").some((line) => line.trim().split(/\s+/)[1] === driver);

function isThere({ name, evidence }: KernelModule, facts: NeedsFacts): boolean {
  if (evidence.file === "module") return facts.hasModule(name);
  return hasDriver(evidence.file === "devices" ? facts.devices() : facts.misc(), evidence.driver);
}

/** Features without which no VM runs, each a row. What the others lack is said where they are tried. */
const VITAL: readonly Feature[] = ["root disks", "jails", "bridge and taps"];

/** What the host lacks for a feature, and how to get it. */
export interface Lack {
  readonly has: readonly string[];
  readonly lacks: readonly string[];
  /** Null when nothing is lacking. */
  readonly fix: string | null;
}

export function findLack(feature: Feature, facts: NeedsFacts): Lack {
  const tools = Object.entries(HELPER_TOOLS as Readonly<Record<string, HelperTool>>).filter(
    ([, tool]) => tool.feature === feature,
  );
  const modules = KERNEL_MODULES.filter((module) => module.feature === feature);
  const isInstalled = ([, { paths }]: (typeof tools)[number]): boolean => paths.some((path) => facts.hasFile(path));
  const missingTools = tools.filter((tool) => !isInstalled(tool));
  const missingModules = modules.filter((module) => !isThere(module, facts)).map(({ name }) => name);
  const packages = [...new Set(missingTools.map(([, tool]) => tool.package))];
  const fixes = [
    ...(packages.length === 0 ? [] : [`sudo apt install ${packages.join(" ")}`]),
    // The helper may open a driver's devices only when the driver was there before it.
    ...(missingModules.length === 0
      ? []
      : [`sudo modprobe -a ${missingModules.join(" ")}`, "sudo banger system restart"]),
  ];
  return {
    has: [
      ...modules.map(({ name }) => name).filter((name) => !missingModules.includes(name)),
      ...tools.filter(isInstalled).map(([name]) => name),
    ],
    lacks: [
      ...missingModules.map((name) => `the kernel has no ${name}`),
      ...missingTools.map(([name]) => `${name} is not installed`),
    ],
    fix: fixes.length === 0 ? null : fixes.join(" && "),
  };
}

/** One row for each feature that VMs can't do without: its kernel modules and programs. */
export function examineNeeds(facts: NeedsFacts): readonly DoctorRow[] {
  return VITAL.map((feature): DoctorRow => {
    const { has, lacks, fix } = findLack(feature, facts);
    return lacks.length === 0
      ? { check: feature, level: "PASS", message: has.join(", "), fix: null }
      : { check: feature, level: "FAIL", message: lacks.join(", "), fix };
  });
}

/** The helper is there; whether it is of the daemon's version. */
export function describeHelper(ping: HelperOutputOf<"priv.ping">, own: string): DoctorRow {
  const said = `version ${ping.version}, for uid ${ping.owner_uid}`;
  if (ping.version === own) return { check: "root helper", level: "PASS", message: said, fix: null };
  return {
    check: "root helper",
    level: "WARN",
    message: `${said}; the daemon is ${own}`,
    fix: "sudo banger system restart",
  };
}

export interface NatProbe extends HelperOutputOf<"priv.probe_nat"> {
  /** The device guests with NAT leave by. */
  readonly uplink: string;
}

/** What came of the packet, and what to do for it to get out. Guests run without, so it is never more than WARN. */
export function describeNat(probe: NatProbe, network: Network): DoctorRow {
  if (probe.forwarded) {
    return { check: "NAT", level: "PASS", message: `a guest's packet got out by ${probe.uplink}`, fix: null };
  }
  const [message, fix] = explainDrop(probe, network);
  return { check: "NAT", level: "WARN", message: `guests with --nat have no network: ${message}`, fix };
}

function explainDrop({ dropped_by: by, where, uplink }: NatProbe, network: Network): readonly [string, string] {
  const { bridge } = network;
  const at = where === null ? "" : ` (${where})`;
  switch (by) {
    case "ip_forward": {
      const key = where ?? "net.ipv4.ip_forward";
      return [`packets are not forwarded, ${key} is 0`, `sudo sysctl -w ${key}=1`];
    }
    case "route": {
      const device = where ?? "another device";
      return [
        `packets leave through ${device} instead of ${uplink} of the default route, because of a VPN or a policy rule`,
        `ip rule show; ip route get 192.0.2.1; then let the default route name ${device}`,
      ];
    }
    case "docker": {
      const accept = (direction: string): string => `sudo iptables -I DOCKER-USER ${direction} ${bridge} -j ACCEPT`;
      return [`Docker drops their packets${at}`, `${accept("-i")} && ${accept("-o")}`];
    }
    case "ufw":
      return [`ufw drops their packets${at}`, `sudo ufw route allow in on ${bridge}`];
    case "firewalld":
      return [
        `firewalld drops their packets${at}; its zone trusted also lets them reach this host's ports`,
        `sudo firewall-cmd --permanent --zone=trusted --add-interface=${bridge} && sudo firewall-cmd --reload`,
      ];
    case "rule":
      return [`a rule of this host drops their packets${at}`, letPass(where ?? "", network)];
    default:
      return where === null
        ? [
            "a packet was lost, and no counter shows where",
            "sudo nft list ruleset; sudo iptables-save -c; sysctl -a --pattern rp_filter",
          ]
        : [`a packet was lost, perhaps in ${where}`, letPass(where, network)];
  }
}

/**
 * An accept before what ended the packet, where that is no way around our own chain: in another table or in a filter of nft's an
 * accept is the last word of that one only. In front of the filter table's rules stands our chain, so what is there is to go.
 */
function letPass(where: string, { bridge, ip, prefix }: Network): string {
  const range = `${ip}/${prefix}`;
  const [, nft] = /^nft (.+)$/.exec(where) ?? [];
  if (nft !== undefined) {
    return ["saddr", "daddr"].map((field) => `sudo nft insert rule ${nft} ip ${field} ${range} accept`).join(" && ");
  }
  const [, table, chain] = /^iptables (\S+) (\S+)$/.exec(where) ?? [];
  const accept = (words: string): string =>
    ["-s", "-d"].map((field) => `sudo ${words} ${field} ${range} -j ACCEPT`).join(" && ");
  if (where === "iptables-legacy") return accept("iptables-legacy -I FORWARD");
  if (table !== undefined && chain !== undefined && table !== "filter")
    return accept(`iptables -t ${table} -I ${chain}`);
  return `remove the rule, or exclude ${bridge} from it`;
}

/** The packet could not even be sent. */
export function describeUntriedNat({ code, message, hint }: BangerError): DoctorRow {
  return code === "NETWORK"
    ? {
        check: "NAT",
        level: "WARN",
        message,
        fix: "connect this host to a network; guests without --nat are not affected",
      }
    : {
        check: "NAT",
        level: "WARN",
        message: `could not be tested: ${message}`,
        fix: hint ?? "sudo journalctl -u bangerd-root.service -n 20",
      };
}
