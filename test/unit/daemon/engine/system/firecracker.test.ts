import { describe, expect, test } from "bun:test";
import { bootArgs, firecrackerBootArgs } from "../../../../../src/daemon/engine/boot-args.ts";
import { firecrackerRequests, parseVersion } from "../../../../../src/daemon/engine/system/firecracker.ts";
import { makeVm } from "../../../../support/vm-record.ts";

const { id, name, spec } = makeVm();
const network = { guest: "172.16.0.2", gateway: "172.16.0.1", netmask: "255.255.255.0", nameServer: "10.0.2.3" };
const plan = {
  id,
  name,
  spec,
  hasInitrd: true,
  tap: "tap-pool-2",
  mac: "06:00:ac:10:00:02",
  network,
  isEmulated: true,
};
const bodyOf = (path: string, version: readonly [number, number, number] = [1, 16, 1]): Record<string, unknown> =>
  (firecrackerRequests(plan, version).find((request) => request.path === path)?.body ?? {}) as Record<string, unknown>;

describe("what Firecracker is told", () => {
  test("everything, and the start last", () => {
    expect(firecrackerRequests(plan, [1, 16, 1]).map(({ path }) => path)).toEqual([
      "/logger",
      "/metrics",
      "/serial",
      "/machine-config",
      "/boot-source",
      "/drives/root",
      "/drives/work",
      "/drives/identity",
      "/network-interfaces/eth0",
      "/vsock",
      "/entropy",
      "/actions",
    ]);
  });
  test("newer fields only where the version has them", () => {
    expect(bodyOf("/serial")["rate_limiter"]).toBeDefined();
    expect(bodyOf("/serial", [1, 15, 0])).toEqual({ serial_out_path: "/io/serial.log" });
    expect(firecrackerRequests(plan, [1, 13, 9]).some(({ path }) => path === "/serial")).toBe(false);
    expect(bodyOf("/serial", [2, 0, 0])["rate_limiter"]).toBeDefined();
  });
  test("disks keep what the guest flushes", () => {
    for (const drive of ["root", "work"]) expect(bodyOf(`/drives/${drive}`)).toMatchObject({ cache_type: "Writeback" });
    expect(bodyOf("/drives/root")["is_root_device"]).toBe(true);
    expect(bodyOf("/drives/work")["is_root_device"]).toBe(false);
  });
  test("the guest can't write what it is known by", () => {
    expect(["root", "work", "identity"].map((drive) => bodyOf(`/drives/${drive}`)["is_read_only"])).toEqual([
      false,
      false,
      true,
    ]);
  });
  test("no initrd where the kernel needs none", () => {
    const request = firecrackerRequests({ ...plan, hasInitrd: false }, [1, 16, 1]).find(
      ({ path }) => path === "/boot-source",
    );
    expect(Object.keys(request?.body as object)).toEqual(["kernel_image_path", "boot_args"]);
    expect(JSON.stringify(request?.body)).not.toContain("rdinit=");
    expect(JSON.stringify(bodyOf("/boot-source"))).toContain("rdinit=/banger-agent");
  });
});

describe("boot arguments", () => {
  const words = (list: readonly { readonly word: string }[]): string[] => list.map(({ word }) => word);
  test("each with a reason, none twice, no blanks", () => {
    for (const list of [firecrackerBootArgs(plan), bootArgs({ ...plan, acceleration: "tcg", tscKhz: 2_000_000 })]) {
      expect(new Set(words(list).map((word) => word.split("=")[0])).size).toBe(list.length);
      for (const { word, why } of list) {
        expect(word).toMatch(/^[\w.=:,/-]+$/);
        expect(why.length).toBeGreaterThan(10);
      }
    }
  });
  test("a reboot ends the VMM, and the address is the guest's own", () => {
    expect(words(firecrackerBootArgs(plan))).toContain("reboot=k");
    expect(words(firecrackerBootArgs(plan))).toContain("ip=172.16.0.2::172.16.0.1:255.255.255.0::eth0:off:10.0.2.3");
    expect(words(firecrackerBootArgs({ ...plan, network: { ...network, nameServer: null } }))).toContain(
      "ip=172.16.0.2::172.16.0.1:255.255.255.0::eth0:off:",
    );
  });
  test("a machine id of the VM's own, the same at every start", () => {
    const of = (vm: string): string | undefined =>
      words(firecrackerBootArgs({ ...plan, id: makeVm({ id: vm }).id })).find((word) =>
        word.startsWith("systemd.machine_id"),
      );
    expect(of("0123456789ab")).toBe(of("0123456789ab"));
    expect(of("0123456789ab")).not.toBe(of("ba9876543210"));
  });
});

test("versions", () => {
  expect(parseVersion({ firecracker_version: "1.17.0-dev" })).toEqual([1, 17, 0]);
  for (const answer of [null, {}, { firecracker_version: 1 }, { firecracker_version: "x" }])
    expect(() => parseVersion(answer)).toThrow("says its version");
});
