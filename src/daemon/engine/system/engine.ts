/** The system engine: Firecracker in a jail, dm snapshots, bridge and taps, all through the root helper. */

import { existsSync, ftruncateSync, readFileSync } from "node:fs";
import { stat, truncate } from "node:fs/promises";
import { join } from "node:path";
import type { Config } from "../../../shared/config.ts";
import { BangerError, isErrno, toBangerError } from "../../../shared/errors.ts";
import { JAIL } from "../../../shared/contract/helper-api.ts";
import { formatIpv4, parseIpv4, subnetOf } from "../../../shared/network/ipv4.ts";
import { jailRootOf as jailRootBelow, openJailFile } from "../../../shared/jail.ts";
import type { SystemPaths } from "../../../shared/places/paths.ts";
import type { DoctorRow, VmId, VmRecord } from "../../../shared/contract/schemas.ts";
import { VERSION } from "../../../shared/version.ts";
import { readTail } from "../../guest/ready.ts";
import type { Log } from "../../log.ts";
import {
  chooseNameServer,
  isInNetwork,
  nextFreeAddress,
  parseLocalAddresses,
  parseRoutes,
} from "./network/addresses.ts";
import { type DnsServer, type SocketKeeper, startDnsServer } from "./network/dns-server.ts";
import { GuestNetwork } from "./network/guest-network.ts";
import type { Privileged } from "./privileged.ts";
import type { VmTable } from "../../store/vms.ts";
import { decideJailedAcceleration, type KvmFacts, readKvmFacts } from "../acceleration.ts";
import { createFirecrackerVmm } from "./firecracker.ts";
import type { Deadlines, Engine, LogFile } from "../engine.ts";
import { readHandles } from "../../store/handles.ts";
import { isPowerOff, LAST_WORDS_BYTES } from "../../vm/reboots.ts";
import type { VmDirs } from "../step.ts";
import { createStepsWith, startStepsWith } from "../steps/index.ts";
import { serialLogPath, vmmLogPath } from "../rootless/steps/launch.ts";
import { ready } from "../steps/ready.ts";
import { boot, launch, type LaunchParts } from "./steps/launch.ts";
import { rootDisk, rootFilePath, rootSnapshot } from "./steps/root-disk.ts";
import { type AddressOf, nat, tap } from "./steps/tap.ts";
import { uidSlot } from "./steps/uid-slot.ts";
import { describeHelper, describeNat, describeUntriedNat, examineNeeds, findLack, type NeedsFacts } from "./doctor.ts";
import { findSystemLeftovers } from "./leftovers.ts";

type HostKind = "hardware" | "nested" | "emulated";

/** A host that is a virtual machine itself runs its guests slower, and an emulated one many times slower. */
const DEADLINES: Readonly<Record<HostKind, Deadlines>> = {
  hardware: { readyMs: 60_000, powerOffMs: 20_000 },
  nested: { readyMs: 180_000, powerOffMs: 60_000 },
  emulated: { readyMs: 900_000, powerOffMs: 180_000 },
};

/** What /proc/cpuinfo says of the machine. The flag `hypervisor` is CPUID's; the model's name is QEMU's own for TCG. */
export function hostKindOf(cpuinfo: string): HostKind {
  if (/^model name\s*:.*\bQEMU TCG\b/m.test(cpuinfo)) return "emulated";
  return /^flags\s*:.*\bhypervisor\b/m.test(cpuinfo) ? "nested" : "hardware";
}

/** How often rules are made sure of: a firewall's reload wipes them without a word. */
const RULES_CHECK_MS = 30_000;
/** How long after a start taps are made ahead for the next ones. */
const POOL_DELAY_MS = 3000;
/** A helper that ends too, as at a shutdown of the host, doesn't answer. */
const UNROUTE_TIMEOUT_MS = 3000;
const LOG_LIMIT_BYTES = 8 * 1024 * 1024;

/** What the engine reads of the host. */
export interface HostFacts {
  kvm(): KvmFacts;
  /** The text of /proc/net/route. */
  routes(): string;
  /** The text of /proc/cpuinfo. */
  cpus(): string;
  readonly needs: NeedsFacts;
}

const thisHost: HostFacts = {
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

export interface SystemEngineParts {
  readonly paths: SystemPaths;
  readonly config: Config;
  readonly log: Log;
  readonly vms: VmTable;
  readonly privileged: Privileged;
  readonly host?: HostFacts;
  /** Keeps the DNS server's socket between daemons. */
  readonly dnsSocket?: SocketKeeper | undefined;
}

export function createSystemEngine(parts: SystemEngineParts): Engine {
  const { paths, config, log, vms, privileged, host = thisHost, dnsSocket } = parts;
  const jailRootOf = (id: VmId): string => jailRootBelow(paths.jailDir, id);
  const vmm = createFirecrackerVmm(privileged, jailRootOf);
  /** When rules were last made sure of: of a VM, or of the bridge. */
  const rulesChecked = new Map<VmId | "bridge", number>();
  let dns: DnsServer | null = null;
  let telling: Promise<void> = Promise.resolve();
  /** What went wrong outside any VM's life, by what it is about; doctor's rows. */
  const troubles = new Map<"dns" | "resolver", BangerError>();
  const note = (about: "dns" | "resolver", thrown: unknown): void => {
    const error = toBangerError(thrown);
    troubles.set(about, error);
    log.warn("names under .vm do not resolve on this host", { error: error.message });
  };

  const network = new GuestNetwork({
    privileged,
    log,
    settings: {
      bridge: config.bridge_name,
      ip: config.bridge_ip,
      prefix: config.cidr,
      poolSize: config.tap_pool_size,
    },
    readRoutes: () => parseRoutes(host.routes()),
    onBridge: async ({ bridge }) => await routeNames(bridge),
  });

  /** The bridge that the resolver was told to ask for names at. */
  let routed: string | null = null;
  /** Has the resolver ask this daemon, if it got its port: what else may listen there is not asked. */
  async function routeNames(bridge: string): Promise<void> {
    if (dns === null) return;
    routed = bridge;
    try {
      await privileged.call("priv.sync_resolver_routing", { bridge, resolver: dns.address });
      troubles.delete("resolver");
    } catch (thrown) {
      // Guests run without it; doctor says what is missing.
      note("resolver", thrown);
    }
  }
  /** Before the port is given up. What a daemon that was killed left is cleared by its unit. */
  const unrouteNames = async (): Promise<void> => {
    if (routed === null) return;
    const clearing = privileged.call("priv.clear_resolver_routing", { bridge: routed }).catch((thrown: unknown) => {
      log.warn("the resolver was not told that names end", { error: toBangerError(thrown).message });
    });
    await Promise.race([clearing, Bun.sleep(UNROUTE_TIMEOUT_MS)]);
  };

  const addressOf: AddressOf = async ({ id, dirs }) =>
    vms.get(id)?.guestIp ?? (await readHandles(dirs.state))?.guestIp ?? null;
  const launchParts: LaunchParts = {
    privileged,
    network,
    vmm,
    jailRootOf,
    nameServer: readNameServer,
    isEmulated: () => hostKind() === "emulated",
  };
  const addresses = (): ReadonlySet<string> => new Set(vms.list().flatMap(({ guestIp }) => guestIp ?? []));

  /** The address that guests have theirs by: of the first VM that has one, else of the bridge as it is. */
  const bridgeIpInUse = (): string | null => {
    const [guestIp] = addresses();
    const first = guestIp === undefined ? null : subnetOf(parseIpv4(guestIp) ?? 0, config.cidr).first;
    const route = parseRoutes(host.routes()).find(({ device }) => device === config.bridge_name);
    const base = first ?? route?.first;
    return base === undefined ? null : formatIpv4(base + 1);
  };

  const hostKind = (): HostKind => hostKindOf(host.cpus());
  const acceleration = (): ReturnType<typeof decideJailedAcceleration> => decideJailedAcceleration(host.kvm());

  const openLog = (id: VmId, { state }: VmDirs, source: "serial" | "vmm"): LogFile | null => {
    try {
      return openJailFile(jailRootOf(id), source === "serial" ? JAIL.serialLog : JAIL.vmmLog);
    } catch (thrown) {
      const isGone = ["ENOENT", "EACCES"].some((errno) => isErrno(thrown, errno));
      if (!isGone) {
        log.warn("a VM's log is not what it should be", { vm: id, error: (thrown as Error).message });
        return null;
      }
    }
    return { path: source === "serial" ? serialLogPath(state) : vmmLogPath(state), [Symbol.dispose]: () => {} };
  };

  const isDue = (what: VmId | "bridge"): boolean => {
    if (Date.now() - (rulesChecked.get(what) ?? 0) < RULES_CHECK_MS) return false;
    rulesChecked.set(what, Date.now());
    return true;
  };
  /** Taps made ahead outlive the daemon that made them. */
  const rememberPool = async (): Promise<void> => {
    const { taps } = await privileged.call("priv.inventory", {});
    network.rememberPool(
      taps.map(({ tap: name }) => name),
      addresses(),
    );
  };
  const lookAfterRules = async (vm: VmRecord): Promise<void> => {
    const { guestIp } = vm;
    try {
      // What keeps guests in first: it holds for those without NAT, too.
      if (isDue("bridge")) await network.reassureBridge();
      if (vm.spec.nat && guestIp !== undefined && guestIp !== null && isDue(vm.id)) await network.setNat(guestIp, true);
    } catch (thrown) {
      log.warn("the rules of guests are not in place", { vm: vm.id, error: toBangerError(thrown).message });
    }
  };

  return {
    name: "firecracker",
    vmm,
    createSteps: createStepsWith({ before: [uidSlot(privileged)], rootDisk: rootDisk(privileged) }),
    startSteps: startStepsWith({
      host: [rootSnapshot(privileged), tap(network, addressOf)],
      launch: [launch(launchParts), boot(launchParts), nat(network, addressOf)],
      ready: {
        ...ready,
        do: async (context) => {
          await ready.do(context);
          // The user's first command has the host to itself.
          network.fillPoolLater(addresses, POOL_DELAY_MS);
        },
      },
    }),
    prepare: async () => {
      const { bridge, ip, prefix } = network.network(bridgeIpInUse());
      log.info("network of guests", { bridge, range: `${ip}/${prefix}` });
      if (vms.list().length > 0) {
        void rememberPool().catch((thrown: unknown) =>
          log.warn("taps made ahead are not known", { error: toBangerError(thrown).message }),
        );
      }
      const [dnsIp = "", dnsPort = ""] = config.dns.split(":");
      dns = await startDnsServer(
        { ip: dnsIp, port: Number(dnsPort) },
        (name) => {
          const vm = vms.list().find((each) => each.name === name);
          return vm?.state === "running" ? (vm.guestIp ?? null) : null;
        },
        dnsSocket,
      ).catch((thrown: unknown) => {
        note("dns", thrown);
        return null;
      });
      // The daemon before this one took its route along; a bridge that isn't there yet gets one when it is made.
      if (parseRoutes(host.routes()).some(({ device }) => device === bridge)) telling = routeNames(bridge);
    },
    detectAcceleration: acceleration,
    requireAcceleration: () => {
      const { kind, reason, fix } = acceleration();
      if (kind === "kvm") return kind;
      throw new BangerError("NO_KVM", reason, fix === null ? {} : { hint: fix });
    },
    deadlines: () => DEADLINES[hostKind()],
    reserve: (others, own) => {
      const range = network.network(bridgeIpInUse());
      const taken = new Set(others.flatMap(({ guestIp }) => guestIp ?? []));
      const before = own?.guestIp;
      if (before !== undefined && before !== null && isInNetwork(range, before) && !taken.has(before))
        return { guestIp: before };
      return { guestIp: nextFreeAddress(range, taken) };
    },
    guestAddress: ({ id, address }, { runtime }) => {
      if (address === null) return null;
      const [sshHost = "", port = ""] = address.split(":");
      return { id, sshHost, sshPort: Number(port), runtimeDir: runtime, jailRoot: jailRootOf(id) };
    },
    shutdownWord: "reboot",
    openLog,
    trimLogs: async (id) => {
      for (const name of [JAIL.serialLog, JAIL.vmmLog, JAIL.metrics]) {
        try {
          {
            using file = openJailFile(jailRootOf(id), name);
            // Firecracker goes on where it was, so the size stays and the beginning becomes a hole: blocks are what counts.
            if ((await stat(file.path)).blocks * 512 <= LOG_LIMIT_BYTES) continue;
          }
          using file = openJailFile(jailRootOf(id), name, "write");
          ftruncateSync(file.fd, 0);
        } catch (thrown) {
          if (!isErrno(thrown, "ENOENT"))
            log.warn("a log was not cut", { vm: id, name, error: (thrown as Error).message });
        }
      }
    },
    growRoot: async ({ state }, bytes) => {
      // A snapshot takes its size at the next start.
      if (existsSync(rootFilePath(state))) await truncate(rootFilePath(state), bytes);
    },
    setNat: async ({ guestIp }, enable) => {
      if (guestIp !== undefined && guestIp !== null) await network.setNat(guestIp, enable);
    },
    adopt: async (vm) => {
      if (vm.guestIp !== undefined && vm.guestIp !== null) network.adopt(vm.guestIp);
      await network.ensureBridge();
      await lookAfterRules(vm);
    },
    lookAfter: async (vm, dirs) => {
      await lookAfterRules(vm);
      using serial = openLog(vm.id, dirs, "serial");
      return serial !== null && isPowerOff(await readTail(serial.path, LAST_WORDS_BYTES));
    },
    afterDelete: async () => {
      if (vms.list().length > 0) return;
      await rememberPool();
      network.fillPool(new Set(), 0);
      await network.settled();
    },
    extraDiskBytes: async (id) => ((await stat(join(paths.cowDir, `${id}.cow`)).catch(() => null))?.blocks ?? 0) * 512,
    findLeftovers: async (known) => await findSystemLeftovers(privileged, network, { known, vms: vms.list() }),
    examine: async () => await examine(),
    close: async () => {
      await network.settled();
      await telling;
      await unrouteNames();
      const server = dns;
      dns = null;
      await server?.close();
    },
  };

  async function examine(): Promise<DoctorRow[]> {
    const rows: DoctorRow[] = [];
    const add = (check: string, level: DoctorRow["level"], message: string, fix: string | null = null): void => {
      rows.push({ check, level, message, fix });
    };
    const { kind, reason, fix } = acceleration();
    add(
      "kvm",
      kind === "kvm" ? (hostKind() !== "hardware" ? "WARN" : "PASS") : "FAIL",
      hostKind() !== "hardware" && kind === "kvm"
        ? `${reason}; this host is a virtual machine itself, so guests are slower`
        : reason,
      fix,
    );
    rows.push(...examineNeeds(host.needs));
    try {
      rows.push(describeHelper(await privileged.call("priv.ping", {}), VERSION));
    } catch (thrown) {
      const { code, message, hint } = toBangerError(thrown);
      // One that knows no such request is of another version.
      const fix =
        code === "INVALID_REQUEST" ? "sudo banger system restart" : "sudo systemctl status bangerd-root.socket";
      add("root helper", "FAIL", message, hint ?? fix);
      return rows;
    }
    try {
      const { version, firecracker } = await privileged.call("priv.resolve_firecracker_binary", {});
      add("firecracker", "PASS", `${version} (${firecracker})`);
    } catch (thrown) {
      add("firecracker", "FAIL", toBangerError(thrown).message, "sudo banger system install");
    }
    rows.push(...(await examineNetwork()));
    const answered = `NAME.vm is answered at ${config.dns}`;
    const { lacks, fix: install } = findLack("names", host.needs);
    const trouble = troubles.get("dns") ?? (lacks.length > 0 ? undefined : troubles.get("resolver"));
    if (trouble !== undefined) {
      add("names", "WARN", trouble.message, trouble.hint ?? "point your resolver's domain vm at the daemon's port");
    } else if (lacks.length > 0)
      add("names", "WARN", `${answered}, and nobody asks there: ${lacks.join(", ")}`, install);
    else add("names", "PASS", answered);
    return rows;
  }

  /** The range, the bridge, and a packet of a guest's on its way out. */
  async function examineNetwork(): Promise<readonly DoctorRow[]> {
    const { bridge, ip, prefix } = network.network(bridgeIpInUse());
    const range = `${ip}/${prefix} on ${bridge}`;
    const { collision } = network;
    const first = config.bridge_ip === null ? "the usual range" : "it";
    const message = collision === null ? range : `${range}; a route by ${collision.device} collides with ${first}`;
    const row = (level: DoctorRow["level"], said: string, fix: string | null): DoctorRow => ({
      check: "network",
      level,
      message: said,
      fix,
    });
    const move = "set bridge_ip in /etc/banger/config.toml to an address of a free range";
    try {
      await network.reassureBridge();
    } catch (thrown) {
      const { message: why } = toBangerError(thrown);
      const otherwise = collision === null ? "sudo journalctl -u bangerd-root.service -n 20" : move;
      const fix = findLack("bridge and taps", host.needs).fix ?? otherwise;
      return [row("FAIL", `${message}; the bridge can't be made: ${why}`, fix)];
    }
    const own =
      collision === null ? row("PASS", message, null) : row("WARN", message, config.bridge_ip === null ? null : move);
    const { lacks, fix } = findLack("NAT", host.needs);
    if (lacks.length > 0) {
      return [own, { check: "NAT", level: "WARN", message: `guests can't have --nat: ${lacks.join(", ")}`, fix }];
    }
    try {
      return [own, describeNat(await network.probeNat(addresses()), network.network())];
    } catch (thrown) {
      return [own, describeUntriedNat(toBangerError(thrown))];
    }
  }
}

/** The host's own name server, as far as guests reach it: the stub's upstreams where resolv.conf names a stub. */
function readNameServer(): string | null {
  const files = ["/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"];
  return chooseNameServer(
    files.filter(existsSync).map((file) => readFileSync(file, "utf8")),
    parseLocalAddresses(readFileSync("/proc/net/fib_trie", "utf8")),
  );
}
