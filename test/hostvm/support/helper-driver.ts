/**
 * Runs inside a test host as the owner: sends the root helper both a daemon's requests and hostile ones. The scenarios
 * bundle it into one file. `argv`: the command and its arguments as JSON. Prints one JSON value.
 */

import { existsSync, mkdirSync, renameSync, rmSync, symlinkSync, unlinkSync, writeFileSync } from "node:fs";
import { connect } from "node:net";
import { ANSWER_LIMIT_BYTES, encodeFrame, FrameDecoder } from "../../../src/shared/contract/frames.ts";
import { HELPER_VERBS, HELPER_VERSION, type HelperVerbName } from "../../../src/shared/contract/helper-api.ts";
import { systemPaths } from "../../../src/shared/places/paths.ts";
import { GOOD_INPUTS } from "../../support/helper-inputs.ts";

const { helperSocket, vmsDir, imagesDir, kernelsDir, jailDir } = systemPaths();

type Params = Readonly<Record<string, unknown>>;
/** A result, an error's code, or a note that the helper closed without an answer. */
type Reply = { readonly result: unknown } | { readonly code: string; readonly message: string };

/** Sends bytes. Returns what came back before the helper closed. */
async function exchange(bytes: Uint8Array, timeoutMs = 150_000): Promise<Uint8Array> {
  return await new Promise((resolve) => {
    const received: Uint8Array[] = [];
    const socket = connect(helperSocket);
    const timer = setTimeout(() => socket.destroy(), timeoutMs);
    socket.on("data", (chunk: Uint8Array) => received.push(chunk));
    // The helper may also close by a reset.
    socket.on("error", () => undefined);
    socket.on("close", () => {
      clearTimeout(timer);
      resolve(Buffer.concat(received));
    });
    socket.write(bytes);
  });
}

async function ask(request: unknown): Promise<Reply> {
  const bytes = await exchange(encodeFrame(request));
  if (bytes.length === 0) return { code: "CLOSED", message: "" };
  const answer = new FrameDecoder(ANSWER_LIMIT_BYTES).push(bytes)?.value as
    { readonly result: unknown } | { readonly error: { readonly code: string; readonly message: string } };
  return "result" in answer ? { result: answer.result } : answer.error;
}
const call = async (verb: string, params: Params = {}): Promise<Reply> =>
  await ask({ v: HELPER_VERSION, method: `priv.${verb}`, params, op: null });
const outcomeOf = (reply: Reply): string => ("result" in reply ? "ok" : `${reply.code}: ${reply.message}`);

export interface Lab {
  readonly vm: string;
  readonly bridge: string;
  readonly tap: string;
}

/** Runs every verb in the order of a VM's life, until one fails. The last entry is the failure, if any. */
async function live({ vm, bridge, tap }: Lab, only?: "start" | "end"): Promise<readonly (readonly [string, string])[]> {
  const launch = { vm, kernel: "lab", initrd: true, root: "snapshot", tap, vcpu: 1, memory_mib: 256 };
  const start: readonly (readonly [string, Params])[] = [
    ["ping", {}],
    ["ensure_bridge", { bridge, ip: "172.29.7.1", prefix: 24 }],
    ["create_tap", { tap, bridge, guest_ip: "172.29.7.2" }],
    ["sync_resolver_routing", { bridge, resolver: "127.0.0.1:5399" }],
    ["ensure_nat", { tap, guest_ip: "172.29.7.2", enable: true }],
    ["probe_nat", { tap, guest_ip: "172.29.7.2" }],
    ["create_dm_snapshot", { vm, image: "lab", root_bytes: 512 * 1024 * 1024 }],
    ["resolve_firecracker_binary", {}],
    ["launch_firecracker", launch],
    ["find_firecracker_pid", { vm }],
    ["inventory", {}],
  ];
  const end: readonly (readonly [string, Params])[] = [
    ["signal_process", { vm, signal: "USR1" }],
    ["kill_process", { vm }],
    ["cleanup_jailer_chroot", { vm }],
    ["remove_dm_snapshot", { vm, discard: true }],
    ["ensure_nat", { tap, guest_ip: "172.29.7.2", enable: false }],
    ["clear_resolver_routing", { bridge }],
    ["delete_tap", { tap }],
  ];
  const steps = only === "start" ? start : only === "end" ? end : [...start, ...end];
  const done: [string, string][] = [];
  for (const [verb, params] of steps) {
    const outcome = outcomeOf(await call(verb, params));
    done.push([verb, outcome]);
    if (outcome !== "ok" && only !== "end") break;
  }
  return done;
}

/** Returns each request's outcome, in order. */
async function askAll(requests: readonly (readonly [string, Params])[]): Promise<readonly string[]> {
  const outcomes: string[] = [];
  for (const [verb, params] of requests) outcomes.push(outcomeOf(await call(verb, params)));
  return outcomes;
}

const quietly = (act: () => void): void => {
  try {
    act();
  } catch {
    // The other side of the race was faster.
  }
};

/**
 * Swaps names in a loop until killed: those that a verb resolves for the VM, with links to root's files, and with
 * `NAME.hard`, which the caller has made a second name of root's file.
 */
function exchangeNames({ vm, treasure }: { readonly vm: string; readonly treasure: string }): never {
  const io = `${jailDir}/firecracker/${vm}/root/io`;
  const swap = (path: string, target: string): void => {
    quietly(() => renameSync(path, `${path}.kept`));
    quietly(() => symlinkSync(target, path));
    quietly(() => unlinkSync(path));
    quietly(() => renameSync(`${path}.hard`, path));
    quietly(() => renameSync(path, `${path}.hard`));
    quietly(() => renameSync(`${path}.kept`, path));
  };
  for (;;) {
    swap(`${imagesDir}/lab/rootfs.ext4`, `${treasure}/rootfs.ext4`);
    swap(`${kernelsDir}/lab/vmlinux`, `${treasure}/vmlinux`);
    swap(`${vmsDir}/${vm}/work.ext4`, `${treasure}/work.ext4`);
    for (const directory of [`${imagesDir}/lab`, `${kernelsDir}/lab`, `${vmsDir}/${vm}`]) swap(directory, treasure);
    swap(`${io}/api.sock`, `${treasure}/api.sock`);
    quietly(() => mkdirSync(`${io}/d/e`, { recursive: true }));
    quietly(() => renameSync(`${io}/d`, `${io}/f`));
    quietly(() => symlinkSync(treasure, `${io}/d`));
    quietly(() => unlinkSync(`${io}/d`));
    quietly(() => rmSync(`${io}/f`, { recursive: true }));
  }
}

/**
 * Makes the calls in order, over and over, for at least the given time, and on a slow host until each outcome was seen
 * (at most six times as long). Counts the outcomes by `VERB OUTCOME`.
 */
async function hammer(options: {
  readonly requests: readonly (readonly [string, Params])[];
  readonly until: readonly string[];
  readonly durationMs: number;
}): Promise<Readonly<Record<string, number>>> {
  const counts: Record<string, number> = {};
  const began = Date.now();
  const isDone = (): boolean => {
    const ms = Date.now() - began;
    const seenAll = options.until.every((outcome) => (counts[outcome] ?? 0) > 0);
    return ms > 6 * options.durationMs || (ms > options.durationMs && seenAll);
  };
  do {
    for (const [verb, params] of options.requests) {
      const reply = await call(verb, params);
      const outcome = `${verb} ${"result" in reply ? "ok" : reply.code}`;
      counts[outcome] = (counts[outcome] ?? 0) + 1;
    }
  } while (!isDone());
  return counts;
}

/** A generator that returns the same numbers for the same seed (mulberry32). */
function randomFrom(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

const ODD: readonly unknown[] = [
  ...["../../../etc/shadow", "/dev/vda", "eth0", "lo", "docker0", "br-fc;reboot", "tap-fc-\0", "$(id)", "-D", ""],
  ...["172.16.0.1/0", "0.0.0.0", "10.0.2.15", "x".repeat(4000), "\ud800", "fc-rootfs-"],
  ...[-1, 0, 1e308, 2 ** 53, null, true, [], {}],
];

/** Sends mutated requests and random bytes, and counts the outcomes. Prints its seed to standard error. */
async function fuzz(options: {
  readonly seed: number;
  readonly durationMs: number;
}): Promise<Readonly<Record<string, number>>> {
  console.error(`fuzz seed ${options.seed}`);
  const random = randomFrom(options.seed);
  const pick = <T>(list: readonly T[]): T => list[Math.floor(random() * list.length)] as T;
  const names = Object.keys(HELPER_VERBS) as HelperVerbName[];
  const counts: Record<string, number> = {};
  const mutate = (value: Record<string, unknown>): void => {
    const keys = Object.keys(value);
    const key = random() < 0.15 || keys.length === 0 ? pick(["uid", "env", "__proto__", "argv"]) : pick(keys);
    // A key named __proto__ must become a key, not this program's own prototypes.
    const old = Object.hasOwn(value, key) ? value[key] : undefined;
    if (typeof old === "string" && random() < 0.4) {
      const at = Math.floor(random() * (old.length + 1));
      value[key] =
        old.slice(0, at) + pick(["/", ".", "\n", " ", "a", "0", "-"]) + old.slice(at + (random() < 0.5 ? 1 : 0));
    } else if (typeof old === "object" && old !== null && !Array.isArray(old) && random() < 0.7)
      mutate(old as Record<string, unknown>);
    else if (random() < 0.2) delete value[key];
    else
      Object.defineProperty(value, key, {
        value: structuredClone(pick(ODD)),
        enumerable: true,
        configurable: true,
        writable: true,
      });
  };
  for (const end = Date.now() + options.durationMs; Date.now() < end;) {
    await Promise.all(
      Array.from({ length: 16 }, async () => {
        let bytes: Uint8Array;
        if (random() < 0.2) {
          bytes = crypto.getRandomValues(new Uint8Array(4 + Math.floor(random() * 60)));
          bytes.set([0, 0, 0, bytes.length - 4]);
        } else {
          const name = pick(names);
          const params = structuredClone(GOOD_INPUTS[name]) as Record<string, unknown>;
          for (let count = 1 + Math.floor(random() * 3); count > 0; count--) mutate(params);
          bytes = encodeFrame({ v: HELPER_VERSION, method: name, params, op: null });
        }
        const answer = await exchange(bytes);
        const value = answer.length === 0 ? null : new FrameDecoder(ANSWER_LIMIT_BYTES).push(answer)?.value;
        const error = (value as { readonly error?: { readonly code: string } } | null)?.error;
        const key = value === null ? "CLOSED" : (error?.code ?? "ok");
        counts[key] = (counts[key] ?? 0) + 1;
      }),
    );
  }
  return counts;
}

/**
 * Opens many connections at once that send nothing or half a request. Returns how long until a ping is answered again.
 */
async function flood({ connections }: { readonly connections: number }): Promise<{ readonly answered: boolean }> {
  const half = encodeFrame({ v: HELPER_VERSION, method: "priv.ping", params: {}, op: null }).subarray(0, 9);
  const sockets = Array.from({ length: connections }, (_, index) => {
    const socket = connect(helperSocket);
    socket.on("error", () => undefined);
    if (index % 3 === 0) socket.write(half);
    if (index % 3 === 1) socket.write(new Uint8Array([0xff, 0xff, 0xff, 0xff]));
    return socket;
  });
  await Bun.sleep(2000);
  for (const socket of sockets) socket.destroy();
  for (let tries = 0; tries < 60; tries++) {
    if ("result" in (await call("ping"))) return { answered: true };
    await Bun.sleep(250);
  }
  return { answered: false };
}

/** Boots the launched VM over its API, with in-jail names. */
async function boot({ vm, tap }: Lab): Promise<readonly string[]> {
  const unix = `${jailDir}/firecracker/${vm}/root/io/api.sock`;
  const said: string[] = [];
  const put = async (path: string, body: Params): Promise<void> => {
    const reply = await fetch(`http://localhost/${path}`, { unix, method: "PUT", body: JSON.stringify(body) });
    said.push(`${path} ${reply.status} ${await reply.text()}`);
  };
  await put("serial", { serial_out_path: "/io/serial.log" });
  await put("machine-config", { vcpu_count: 1, mem_size_mib: 256 });
  await put("boot-source", {
    kernel_image_path: "/kernel",
    initrd_path: "/initrd",
    boot_args: "console=ttyS0 reboot=k panic=-1 quiet",
  });
  for (const [id, path] of [
    ["rootfs", "/root-drive"],
    ["work", "/work-drive"],
  ]) {
    await put(`drives/${id}`, {
      drive_id: id,
      path_on_host: path,
      is_root_device: false,
      is_read_only: false,
      cache_type: "Writeback",
    });
  }
  await put("network-interfaces/eth0", { iface_id: "eth0", host_dev_name: tap, guest_mac: "06:00:ac:1d:07:02" });
  await put("vsock", { guest_cid: 3, uds_path: "/io/vsock.sock" });
  await put("actions", { action_type: "InstanceStart" });
  return said;
}

/**
 * Takes every place at the helper's socket that the owner can get, until a file exists: many silent connections,
 * reopened when closed, and valid slow verbs, sent again when answered. Creates `mark` once all have begun. Returns how
 * many verbs were answered and how many were closed.
 */
async function occupy(options: {
  readonly silent: number;
  readonly asking: number;
  readonly bridge: string;
  readonly mark: string;
  readonly stop: string;
}): Promise<Readonly<Record<string, number>>> {
  const counts = { answered: 0, closed: 0, silent: 0 };
  let ends = false;
  const silences = new Set<ReturnType<typeof connect>>();
  const keepSilent = (): void => {
    if (ends) return;
    const socket = connect(helperSocket);
    silences.add(socket);
    counts.silent++;
    socket.on("error", () => undefined);
    socket.on("close", () => {
      silences.delete(socket);
      setTimeout(keepSilent, 20);
    });
  };
  const ask = async (): Promise<void> => {
    while (!ends) {
      const reply = await call("ensure_bridge", { bridge: options.bridge, ip: "172.29.7.1", prefix: 24 });
      if ("code" in reply && reply.code === "CLOSED") {
        counts.closed++;
        await new Promise((resolve) => setTimeout(resolve, 20));
      } else counts.answered++;
    }
  };
  const asking = Array.from({ length: options.asking }, ask);
  for (let count = 0; count < options.silent; count++) keepSilent();
  writeFileSync(options.mark, "");
  while (!existsSync(options.stop)) await new Promise((resolve) => setTimeout(resolve, 100));
  ends = true;
  for (const socket of silences) socket.destroy();
  await Promise.all(asking);
  return counts;
}

const COMMANDS: Readonly<Record<string, (options: never) => unknown>> = {
  live,
  askAll,
  exchangeNames,
  hammer,
  fuzz,
  flood,
  occupy,
  boot,
};
const [command = "", ...rest] = process.argv.slice(2);
const run = COMMANDS[command] as ((...options: readonly unknown[]) => unknown) | undefined;
if (run === undefined) throw new Error(`no command ${command}`);
writeFileSync(1, JSON.stringify(await run(...rest.map((text) => JSON.parse(text) as unknown))));
