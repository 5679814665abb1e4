import { describe, expect, test } from "bun:test";
import * as v from "valibot";
import { HELPER_VERBS, HelperRequest, type HelperVerbName } from "../../../src/shared/helper-contract.ts";

const vm = "0123456789ab";
const bridge = { bridge: "br-fc", ip: "172.16.0.1", prefix: 24 };
const running = { pid: 7, start_ticks: "123" };

/** One good input of every verb: a verb that is missing here does not compile. */
export const GOOD_INPUTS: Readonly<Record<HelperVerbName, Readonly<Record<string, unknown>>>> = {
  "priv.ensure_bridge": bridge,
  "priv.create_tap": { tap: "tap-pool-3", bridge: "br-fc" },
  "priv.delete_tap": { tap: "tap-pool-3" },
  "priv.ensure_nat": { guest_ip: "172.16.0.2", tap: "tap-pool-3", enable: true },
  "priv.sync_resolver_routing": { bridge: "br-fc", resolver: "127.0.0.1:5300" },
  "priv.clear_resolver_routing": { bridge: "br-fc" },
  "priv.create_dm_snapshot": { vm, image: "debian-trixie", root_bytes: 1024 ** 3 },
  "priv.remove_dm_snapshot": { vm, discard: false },
  "priv.cleanup_dm_snapshot": {
    vm,
    handles: { dm_name: `fc-rootfs-${vm}`, dm_device: null, base_loop: null, cow_loop: "/dev/loop3" },
  },
  "priv.fsck_snapshot": { vm },
  "priv.read_ext4_file": { vm, path: "/etc/hostname" },
  "priv.write_ext4_files": { vm, files: [{ path: "/etc/hostname", mode: 0o644, contents: "Ym94Cg==" }] },
  "priv.resolve_firecracker_binary": {},
  "priv.launch_firecracker": {
    vm,
    kernel: "debian-trixie",
    initrd: true,
    root: "snapshot",
    tap: "tap-pool-3",
    vcpu: 2,
    memory_mib: 1024,
  },
  "priv.ensure_socket_access": { vm },
  "priv.find_firecracker_pid": { vm },
  "priv.process_running": { vm, process: running },
  "priv.signal_process": { vm, signal: "SIGTERM" },
  "priv.kill_process": { vm },
  "priv.cleanup_jailer_chroot": { vm },
  "priv.release_vm": { vm },
  "priv.inventory": {},
  "priv.ping": {},
};

const accepts = (name: HelperVerbName, input: unknown): boolean =>
  v.safeParse(HELPER_VERBS[name].input as v.GenericSchema, input).success;

describe.each(Object.entries(GOOD_INPUTS))("%s", (key, good) => {
  const name = key as HelperVerbName;
  test("takes a good input, and none with a key too many or too few", () => {
    expect(accepts(name, good)).toBe(true);
    expect(accepts(name, { ...good, uid: 0 })).toBe(false);
    expect(accepts(name, { ...good, env: { PATH: "/tmp" } })).toBe(false);
    for (const missing of Object.keys(good)) {
      const { [missing]: _, ...rest } = good;
      expect(accepts(name, rest)).toBe(false);
    }
  });

  test("takes no value of another type in any field", () => {
    for (const field of Object.keys(good)) {
      for (const wrong of [[], {}, -1, 1.5, Number.NaN, "", "\0", undefined, "x".repeat(5000)]) {
        expect(accepts(name, { ...good, [field]: wrong })).toBe(false);
      }
    }
    for (const wrong of [null, "x", 1, [good]]) expect(accepts(name, wrong)).toBe(false);
  });
});

describe("the schemas of ids", () => {
  test.each(["../../etc", "0123456789AB", "0123456789abc", "0123456789a/", "0123456789ab\n"])(
    "no VM is named %j",
    (id) => expect(accepts("priv.kill_process", { vm: id })).toBe(false),
  );
  test.each(["..", ".", "a/b", "/etc", "-x", "a\0", "A", "x\n"])("no image is named %j", (image) =>
    expect(accepts("priv.create_dm_snapshot", { vm, image, root_bytes: 1024 ** 3 })).toBe(false),
  );
});

describe("the envelope", () => {
  const good = { v: 1, method: "priv.ping", params: {}, op: null };
  test.each([
    ["another version", { ...good, v: 2 }],
    ["no version", { method: "priv.ping", params: {}, op: null }],
    ["an unknown key", { ...good, uid: 0 }],
    ["an operation that is none", { ...good, op: "op-\nforged log line" }],
    ["an array", [good]],
    ["parameters that are an array", { ...good, params: [] }],
    ["parameters that are none", { ...good, params: null }],
  ])("refuses %s", (_, bad) => {
    expect(v.safeParse(HelperRequest, good).success).toBe(true);
    expect(v.safeParse(HelperRequest, bad).success).toBe(false);
  });
});
