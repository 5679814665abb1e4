/**
 * System mode without a system: the real service, engine, store and runner in a temporary directory, with a fake helper, a
 * fake Firecracker per VM (a sleeping process stands for it) and a fake guest.
 */

import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { createPrivileged } from "../../src/daemon/engine/system/privileged.ts";
import { loadConfig, type Config } from "../../src/shared/config.ts";
import { agentQuestions } from "../../src/daemon/guest/agent/questions.ts";
import type { Guest } from "../../src/daemon/guest/guest.ts";
import type { ImageStore } from "../../src/daemon/image/store.ts";
import { Locks } from "../../src/shared/locks.ts";
import { openDatabase } from "../../src/daemon/store/database.ts";
import { ForwardTable } from "../../src/daemon/store/forwards.ts";
import { JournalTable } from "../../src/daemon/store/journal.ts";
import { VmTable } from "../../src/daemon/store/vms.ts";
import { type JournalHook, Runner } from "../../src/daemon/engine/runner.ts";
import type { Run } from "../../src/daemon/vm/records.ts";
import { createVmService, type VmService } from "../../src/daemon/vm/service.ts";
import { createSystemEngine } from "../../src/daemon/engine/system/engine.ts";
import type { HostFacts } from "../../src/daemon/engine/system/host-facts.ts";
import { identifyProcess } from "../../src/daemon/host/processes.ts";
import { BangerError } from "../../src/shared/errors.ts";
import { jailRootOf } from "../../src/shared/jail.ts";
import { HELPER_VERSION, type HelperOutputOf, JAIL } from "../../src/shared/contract/helper-api.ts";
import { systemPaths, type SystemPaths } from "../../src/shared/places/paths.ts";
import { VERSION } from "../../src/shared/version.ts";
import { type AgentPeer, FakeAgent } from "./fake-agent.ts";
import { type FakeFirecracker, startFakeFirecracker } from "./fake-firecracker.ts";
import { type FakeHelper, type FakeVerbs, startFakeHelper } from "./fake-helper.ts";

const BOOT_ID = "01234567-89ab-cdef-0123-456789abcdef";

interface Vmm {
  readonly child: Bun.Subprocess;
  readonly api: FakeFirecracker;
  readonly agent: FakeAgent | null;
}

/** What the pretended host holds. */
export class FakeHost {
  readonly taps = new Set<string>();
  readonly dm = new Set<string>();
  readonly cow = new Set<string>();
  readonly slots = new Set<string>();
  readonly jails = new Set<string>();
  readonly rules = new Set<string>();
  /** The identity disk of each launch, in order. */
  readonly identities: Uint8Array[] = [];
  /** What comes of doctor's packet. */
  nat: HelperOutputOf<"priv.probe_nat"> = { forwarded: true, dropped_by: null, where: null };
  helperVersion = VERSION;
  /** What happens while doctor's packet is under way. */
  duringProbe: () => Promise<void> = async () => undefined;
  /** What NAT is refused with. */
  noUplink: BangerError | null = null;
  /** What a guest's agent does with each connection; null for guests without one. */
  agent: ((peer: AgentPeer) => unknown) | null = null;
  readonly vmms = new Map<string, Vmm>();

  /** Everything by name; empty when nothing of any VM is left. */
  list(): readonly string[] {
    return [
      ...[...this.taps].map((tap) => `tap ${tap}`),
      ...[...this.dm].map((vm) => `dm ${vm}`),
      ...[...this.cow].map((vm) => `cow ${vm}`),
      ...[...this.slots].map((vm) => `slot ${vm}`),
      ...[...this.jails].map((vm) => `jail ${vm}`),
      ...[...this.rules].map((rule) => `rule ${rule}`),
      ...[...this.vmms.keys()].map((vm) => `vmm ${vm}`),
    ].toSorted();
  }
}

export interface World extends AsyncDisposable {
  readonly paths: SystemPaths;
  readonly helper: FakeHelper;
  readonly host: FakeHost;
  readonly vms: VmTable;
  readonly guestSaid: string[];
  /** The service as a daemon that was just started has it: reconciled, nothing in memory. */
  start(): Promise<VmService>;
  /** Verbs that refuse from now on. */
  readonly broken: Set<string>;
  facts: HostFacts;
  /** Whether the image's guests read the identity disk: those of an older banger's don't. */
  readsIdentity: boolean;
}

export const run: Run = { signal: new AbortController().signal, progress: () => undefined };

/** What a VM is created from where any will do. */
export const FRESH = {
  name: "fresh",
  image: "debian",
  spec: { vcpu: 1, memoryMiB: 256, diskBytes: 64 * 1024 ** 2, nat: true },
  start: true,
} as const;

export async function makeWorld(config: Partial<Config> = {}): Promise<World> {
  const root = await mkdtemp("/tmp/bt-w-");
  const paths = systemPaths(root);
  for (const dir of [paths.vmsDir, paths.runtimeDir, paths.jailDir, paths.cowDir, dirname(paths.helperSocket)])
    await mkdir(dir, { recursive: true });
  await writeFile(join(paths.baseDir, "rootfs.ext4"), "a root file system");
  const host = new FakeHost();
  const broken = new Set<string>();
  const helper = await startFakeHelper(paths.helperSocket, guarded(verbsOf(host, paths, root), broken));
  const db = openDatabase(paths.database);
  const vms = new VmTable(db);
  const guestSaid: string[] = [];
  const shutDown = (id: string, word: string): void => {
    guestSaid.push(word);
    host.vmms.get(id)?.child.kill("SIGKILL");
  };
  const services: VmService[] = [];
  const world: World = {
    paths,
    helper,
    host,
    vms,
    guestSaid,
    broken,
    facts: FACTS,
    readsIdentity: true,
    start: async () => {
      const service = await startService({
        paths,
        db,
        config,
        facts: world.facts,
        shutDown,
        readsIdentity: () => world.readsIdentity,
        hasAgent: () => host.agent !== null,
      });
      services.push(service);
      return service;
    },
    [Symbol.asyncDispose]: async () => {
      for (const { parts } of services) await parts.engine.close?.();
      for (const { child, api, agent } of host.vmms.values()) {
        child.kill("SIGKILL");
        await agent?.[Symbol.asyncDispose]();
        await api[Symbol.asyncDispose]();
      }
      await helper[Symbol.asyncDispose]();
      db.close();
      await rm(root, { recursive: true, force: true });
    },
  };
  return world;
}

/** One daemon's worth of the world; the process that runs it may be killed at a journal entry. */
export async function startService(parts: {
  readonly paths: SystemPaths;
  readonly db: ReturnType<typeof openDatabase>;
  readonly config: Partial<Config>;
  readonly facts: HostFacts;
  readonly shutDown?: (id: string, word: string) => void;
  readonly hook?: JournalHook;
  readonly readsIdentity?: () => boolean;
  readonly hasAgent?: () => boolean;
}): Promise<VmService> {
  const { paths, db, facts, hook } = parts;
  const vms = new VmTable(db);
  const guest = {
    answers: async () => true,
    open: async () => undefined,
    run: async () => ({ exitCode: 0, stdout: `${BOOT_ID}\n`, stderr: "" }),
    shutDown: async ({ id }: { id: string }, word: string) => {
      parts.shutDown?.(id, word);
      return true;
    },
    close: async () => undefined,
    readCounters: async () => null,
    sshArgv: () => ["ssh", "root@guest"],
    agentAnswers: agentQuestions.agentAnswers,
    setClock: agentQuestions.setClock,
  } as unknown as Guest;
  const rootfs = join(paths.baseDir, "rootfs.ext4");
  const images = {
    isKnown: () => true,
    list: async () => [],
    has: () => true,
    ensure: async () => ({ kernel: "debian-6.12" }),
    files: async () => ({
      rootfsPath: rootfs,
      kernelPath: "/k/vmlinux",
      initrdPath: "/k/initrd.img",
      readsIdentity: parts.readsIdentity?.() ?? true,
      hasAgent: parts.hasAgent?.() ?? false,
    }),
    findLeftovers: async () => [],
  } as unknown as ImageStore;
  const log = { debug: () => undefined, info: () => undefined, warn: () => undefined, error: () => undefined };
  const config: Config = {
    ...loadConfig([], () => null).values,
    dns: "127.0.0.1:0",
    tap_pool_size: 0,
    ...parts.config,
  };
  const privileged = createPrivileged(paths.helperSocket, { patienceMs: 200, answerMs: 5000 });
  const journal = new JournalTable(db);
  const engine = createSystemEngine({ paths, config, log, vms, privileged, host: facts });
  const service = createVmService({
    paths,
    config,
    log,
    vms,
    journal,
    forwards: new ForwardTable(db),
    images,
    engine,
    guest,
    runner: new Runner(journal, log, hook),
    locks: new Locks(),
  });
  await engine.prepare?.();
  await service.reconciler.reconcile();
  return service;
}

export const FACTS: HostFacts = {
  kvm: () => ({ device: "usable", modules: ["kvm", "kvm_amd"] }),
  routes: () => "",
  cpus: () => "model name\t: Some CPU\nflags\t\t: fpu vme svm\n",
  needs: {
    hasFile: () => true,
    hasModule: () => true,
    devices: () => "Character devices:\n  1 mem\n\nBlock devices:\n  7 loop\n254 device-mapper\n",
    misc: () => "236 device-mapper\n200 tun\n",
  },
};

function guarded(verbs: FakeVerbs, broken: ReadonlySet<string>): FakeVerbs {
  return Object.fromEntries(
    Object.entries(verbs).map(([verb, act]) => [
      verb,
      (input: never) => {
        if (broken.has(verb)) throw new BangerError("FAILED", `${verb} is broken`);
        return (act as (input: never) => unknown)(input);
      },
    ]),
  ) as FakeVerbs;
}

function verbsOf(host: FakeHost, paths: SystemPaths, root: string): FakeVerbs {
  const alive = async (vm: string): Promise<{ pid: number; start_ticks: string } | null> => {
    const identity = await identifyProcess(host.vmms.get(vm)?.child.pid ?? -1);
    return identity === null ? null : { pid: identity.pid, start_ticks: identity.startTicks };
  };
  return {
    "priv.ensure_bridge": () => ({}),
    "priv.sync_resolver_routing": () => ({}),
    "priv.create_tap": ({ tap }) => {
      host.taps.add(tap);
      return {};
    },
    "priv.delete_tap": ({ tap }) => {
      host.taps.delete(tap);
      return {};
    },
    "priv.ensure_nat": ({ guest_ip, tap, enable }) => {
      if (enable && host.noUplink !== null) throw host.noUplink;
      const rule = `${tap} ${guest_ip}`;
      if (enable) host.rules.add(rule);
      else host.rules.delete(rule);
      return { uplink: enable ? "eth0" : null };
    },
    "priv.probe_nat": async ({ guest_ip, tap }) => {
      const isReady = host.taps.has(tap) && host.rules.has(`${tap} ${guest_ip}`);
      if (!isReady) throw new BangerError("FAILED", `${guest_ip} on ${tap} has no NAT`);
      await host.duringProbe();
      return host.nat;
    },
    "priv.ping": () => ({ version: host.helperVersion, helper_version: HELPER_VERSION, pid: 7, owner_uid: 1000 }),
    "priv.resolve_firecracker_binary": () => ({
      version: "1.16.1",
      firecracker: "/opt/fc/firecracker",
      jailer: "/opt/fc/jailer",
    }),
    "priv.create_dm_snapshot": ({ vm, root_bytes }) => {
      const kept = host.cow.has(vm);
      host.slots.add(vm);
      host.cow.add(vm);
      host.dm.add(vm);
      return {
        dm_name: `fc-rootfs-${vm}`,
        dm_device: `/dev/mapper/fc-rootfs-${vm}`,
        base_loop: "/dev/loop0",
        cow_loop: "/dev/loop1",
        bytes: root_bytes,
        kept,
      };
    },
    "priv.remove_dm_snapshot": ({ vm, discard }) => {
      if (host.vmms.has(vm)) throw new BangerError("IN_USE", `the snapshot of ${vm} is open`);
      host.dm.delete(vm);
      if (discard) host.cow.delete(vm);
      return {};
    },
    "priv.launch_firecracker": async ({ vm, tap }) => {
      if (!host.dm.has(vm) || tap === null || !host.taps.has(tap)) throw new BangerError("VM_NOT_FOUND", "not ready");
      host.identities.push(await readFile(join(paths.vmsDir, vm, "identity.img")));
      host.jails.add(vm);
      const api = await startFakeFirecracker(jailRootOf(paths.jailDir, vm), root);
      const child = Bun.spawn(["sleep", "1000"]);
      // Behind Firecracker's own answer to CONNECT; whoever greets throws away what comes before the hello.
      const serve = host.agent;
      const agent =
        serve === null
          ? null
          : await FakeAgent.listen(join(api.io, basename(JAIL.vsockSocket)), (peer) => {
              peer.write("OK 1073741824\n");
              return serve(peer);
            });
      host.vmms.set(vm, { child, api, agent });
      const process = await alive(vm);
      if (process === null) throw new BangerError("VMM_FAILED", "ended at once");
      return {
        process,
        uid: 100_000,
        firecracker_version: "1.16.1",
        jail_root: jailRootOf(paths.jailDir, vm),
        scope: `banger-vm-${vm}.scope`,
      };
    },
    "priv.find_firecracker_pid": async ({ vm }) => ({ process: await alive(vm), uid: 100_000 }),
    "priv.signal_process": () => ({ sent: true }),
    "priv.kill_process": async ({ vm }) => {
      const vmm = host.vmms.get(vm);
      if (vmm === undefined) return { killed: false };
      vmm.child.kill("SIGKILL");
      await vmm.child.exited;
      await vmm.agent?.[Symbol.asyncDispose]();
      await vmm.api[Symbol.asyncDispose]();
      host.vmms.delete(vm);
      return { killed: true };
    },
    "priv.cleanup_jailer_chroot": async ({ vm }) => {
      if (host.vmms.has(vm)) throw new BangerError("IN_USE", `${vm} runs`);
      await rm(dirname(jailRootOf(paths.jailDir, vm)), { recursive: true, force: true });
      host.jails.delete(vm);
      return {};
    },
    "priv.release_vm": async ({ vm }) => {
      const rest = host.list().find((item) => item.endsWith(vm) && !item.startsWith("slot"));
      if (rest !== undefined) throw new BangerError("IN_USE", `${rest} is still there`);
      host.slots.delete(vm);
      return {};
    },
    "priv.inventory": () => ({
      bridges: ["br-fc"],
      taps: [...host.taps].map((tap) => ({ tap, uid: null })),
      dm: [...host.dm].map((vm) => `fc-rootfs-${vm}`),
      loops: [],
      mounts: [],
      jails: [...host.jails],
      cow_files: [...host.cow].map((vm) => ({ vm, allocated_bytes: 0 })),
      nat_rules: [...host.rules].map((rule) => {
        const [tap = "", guest_ip = ""] = rule.split(" ");
        return { tap, guest_ip };
      }),
      walls: [],
      scopes: [...host.vmms].map(([vm, { child }]) => ({ vm, pids: [child.pid] })),
      slots: [...host.slots].map((vm) => ({ vm, uid: 100_000 })),
    }),
  };
}
