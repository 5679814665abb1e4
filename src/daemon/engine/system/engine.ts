/** The system engine: Firecracker in a jail, dm snapshots, bridge and taps, all through the root helper. */

import { existsSync } from "node:fs";
import { stat, truncate } from "node:fs/promises";
import { join } from "node:path";
import type { Config } from "../../../shared/config.ts";
import { BangerError, toBangerError } from "../../../shared/errors.ts";
import { formatIpv4, parseIpv4, subnetOf } from "../../../shared/network/ipv4.ts";
import { jailRootOf as jailRootBelow } from "../../../shared/jail.ts";
import type { SystemPaths } from "../../../shared/places/paths.ts";
import type { VmId } from "../../../shared/contract/schemas.ts";
import { isPowerOff, LAST_WORDS_BYTES } from "../../guest/last-words.ts";
import { readTail } from "../../guest/ready.ts";
import type { Log } from "../../log.ts";
import { readHandles } from "../../store/handles.ts";
import type { VmTable } from "../../store/vms.ts";
import { decideJailedAcceleration } from "../acceleration.ts";
import type { Engine } from "../engine.ts";
import type { Deadlines } from "../guest-access.ts";
import { createStepsWith, startStepsWith } from "../steps/index.ts";
import { ready } from "../steps/ready.ts";
import { examineSystem } from "./examine.ts";
import { createFirecrackerVmm } from "./firecracker.ts";
import { type HostFacts, type HostKind, hostKindOf, readNameServer, thisHost } from "./host-facts.ts";
import { findSystemLeftovers } from "./leftovers.ts";
import { JailLogs } from "./logs.ts";
import { isInNetwork, nextFreeAddress, parseRoutes } from "./network/addresses.ts";
import type { SocketKeeper } from "./network/dns-server.ts";
import { GuestNetwork } from "./network/guest-network.ts";
import { NameService } from "./network/name-service.ts";
import type { Privileged } from "./privileged.ts";
import { GuestRules } from "./rules.ts";
import { boot, launch, type LaunchParts } from "./steps/launch.ts";
import { rootDisk, rootFilePath, rootSnapshot } from "./steps/root-disk.ts";
import { type AddressOf, nat, tap } from "./steps/tap.ts";
import { uidSlot } from "./steps/uid-slot.ts";

/** A host that is a virtual machine itself runs its guests slower, and an emulated one many times slower. */
const DEADLINES: Readonly<Record<HostKind, Deadlines>> = {
  hardware: { readyMs: 60_000, powerOffMs: 20_000 },
  nested: { readyMs: 180_000, powerOffMs: 60_000 },
  emulated: { readyMs: 900_000, powerOffMs: 180_000 },
};

/** How long after a start taps are made ahead for the next ones. */
const POOL_DELAY_MS = 3000;

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
  const logs = new JailLogs(jailRootOf, log);
  const names = new NameService(privileged, log);
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
    onBridge: async ({ bridge }) => await names.route(bridge),
  });
  const rules = new GuestRules(network, log);

  const hostKind = (): HostKind => hostKindOf(host.cpus());
  const acceleration = (): ReturnType<typeof decideJailedAcceleration> => decideJailedAcceleration(host.kvm());
  const addressOf: AddressOf = async ({ id, dirs }) =>
    vms.get(id)?.guestIp ?? (await readHandles(dirs.state))?.guestIp ?? null;
  const addresses = (): ReadonlySet<string> => new Set(vms.list().flatMap(({ guestIp }) => guestIp ?? []));
  /** The address that guests have theirs by: of the first VM that has one, else of the bridge as it is. */
  const bridgeIpInUse = (): string | null => {
    const [guestIp] = addresses();
    const first = guestIp === undefined ? null : subnetOf(parseIpv4(guestIp) ?? 0, config.cidr).first;
    const route = parseRoutes(host.routes()).find(({ device }) => device === config.bridge_name);
    const base = first ?? route?.first;
    return base === undefined ? null : formatIpv4(base + 1);
  };
  /** Taps made ahead outlive the daemon that made them. */
  const rememberPool = async (): Promise<void> => {
    const { taps } = await privileged.call("priv.inventory", {});
    network.rememberPool(
      taps.map(({ tap: name }) => name),
      addresses(),
    );
  };
  const launchParts: LaunchParts = {
    privileged,
    network,
    vmm,
    jailRootOf,
    nameServer: readNameServer,
    isEmulated: () => hostKind() === "emulated",
  };

  return {
    name: "firecracker",
    vmm,
    createSteps: createStepsWith({ before: [uidSlot(privileged)], rootDisk: rootDisk(privileged) }),
    startSteps: startStepsWith({
      host: [rootSnapshot(privileged), tap(network, addressOf)],
      launch: [launch(launchParts), boot(launchParts), nat(network, addressOf)],
      // The user's first command has the host to itself.
      ready: ready({ vmm, onReady: () => network.fillPoolLater(addresses, POOL_DELAY_MS) }),
    }),
    prepare: async () => {
      const { bridge, ip, prefix } = network.network(bridgeIpInUse());
      log.info("network of guests", { bridge, range: `${ip}/${prefix}` });
      if (vms.list().length > 0) {
        void rememberPool().catch((thrown: unknown) =>
          log.warn("taps made ahead are not known", { error: toBangerError(thrown).message }),
        );
      }
      await names.serve(config.dns, () => vms.list(), dnsSocket);
      // The daemon before this one took its route along; a bridge that isn't there yet gets one when it is made.
      if (parseRoutes(host.routes()).some(({ device }) => device === bridge)) names.routeLater(bridge);
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
    guestAddress: ({ id, address, agent }, { runtime }) => {
      if (address === null) return null;
      const [sshHost = "", port = ""] = address.split(":");
      return {
        id,
        sshHost,
        sshPort: Number(port),
        runtimeDir: runtime,
        jailRoot: jailRootOf(id),
        hasAgent: agent === "answers",
      };
    },
    shutdownWord: "reboot",
    openLog: (id, dirs, source) => logs.open(id, dirs, source),
    trimLogs: async (id) => await logs.trim(id),
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
      await rules.lookAfter(vm);
    },
    lookAfter: async (vm, dirs) => {
      await rules.lookAfter(vm);
      using serial = logs.open(vm.id, dirs, "serial");
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
    examine: async () => await examineSystem({ config, host, privileged, network, names, addresses, bridgeIpInUse }),
    close: async () => {
      await network.settled();
      await names.close();
    },
  };
}
