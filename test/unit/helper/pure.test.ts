import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { encodeAcl } from "../../../src/helper/acl.ts";
import { cowBytesFor, rootBytesFor } from "../../../src/helper/dm.ts";
import { natRules, parseRuleset, planBridge, planNat } from "../../../src/helper/firewall.ts";
import { parseMounts } from "../../../src/helper/jail.ts";
import { findMiscDevice, jailerCommand } from "../../../src/helper/launch.ts";
import { hasId } from "../../../src/helper/scope.ts";
import { findHostile } from "../../../src/helper/sanitize.ts";
import { encodeTargets, splitDevice } from "../../../src/helper/sys/device-mapper.ts";
import { parseMount } from "../../../src/helper/sys/mounts.ts";
import { chooseUid, isReservedUid } from "../../../src/helper/slots.ts";
import { systemPaths } from "../../../src/shared/paths.ts";

describe("sanitize", () => {
  test.each([
    "BUN_BE_BUN",
    "BUN_OPTIONS",
    "BUN_INSPECT",
    "NODE_OPTIONS",
    "NODE_EXTRA_CA_CERTS",
    "NODE_TLS_REJECT_UNAUTHORIZED",
    "LD_PRELOAD",
    "LD_LIBRARY_PATH",
    "LD_AUDIT",
    "GCONV_PATH",
    "GLIBC_TUNABLES",
    "SSL_CERT_FILE",
  ])("%s is refused, set to anything", (name) => {
    expect(findHostile({ [name]: "" }, [])).toEqual([name]);
    expect(findHostile({ [name]: "1", PATH: "/bin" }, [])).toEqual([name]);
  });

  test("what systemd sets is fine, a runtime flag is not", () => {
    const env = {
      PATH: "/usr/bin",
      LANG: "C",
      LISTEN_FDS: "1",
      LISTEN_PID: "7",
      NOTIFY_SOCKET: "/run/x",
      INVOCATION_ID: "a",
    };
    expect(findHostile(env, [])).toEqual([]);
    expect(findHostile(env, ["--preload=/tmp/x.ts"])).toEqual(["--preload=/tmp/x.ts"]);
  });
});

test("an access list is in the kernel's form", () => {
  // Version 2; then tag, permissions, id of: the owner rw, user 1000 rw, the group, the mask rw, others.
  const expected = "0200000001000600ffffffff02000600e803000004000000ffffffff10000600ffffffff20000000ffffffff";
  expect(Buffer.from(encodeAcl({ owner: 6, users: new Map([[1000, 6]]) })).toString("hex")).toBe(expected);
});

test("an access list has its users in order, whatever order they came in", () => {
  const one = encodeAcl({
    owner: 7,
    users: new Map([
      [5, 7],
      [900, 1],
    ]),
  });
  expect(
    encodeAcl({
      owner: 7,
      users: new Map([
        [900, 1],
        [5, 7],
      ]),
    }),
  ).toEqual(one);
});

describe("sizes of COW files", () => {
  test("hold every chunk and its metadata, and give the disk's size back", () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 64 * 1024 * 1024 }), (mib) => {
        const bytes = mib * 1024 * 1024;
        expect(cowBytesFor(bytes)).toBeGreaterThanOrEqual(bytes + (bytes / 4096) * 16 + 4096);
        expect(rootBytesFor(cowBytesFor(bytes))).toBe(bytes);
      }),
    );
  });
  test("an empty file was made for nothing", () => expect(rootBytesFor(0)).toBe(0));
});

describe("uids of VMs", () => {
  const install = { owner: { uid: 1000, gid: 1000, name: "dev" }, vm_ids: { first: 5000, count: 3 } };
  test("the next free one after the last, never one outside the range", () => {
    expect(chooseUid(install, new Set(), null)).toBe(5000);
    expect(chooseUid(install, new Set(), 5000)).toBe(5001);
    expect(chooseUid(install, new Set([5000, 5002]), 5001)).toBe(5001);
    expect(chooseUid(install, new Set(), 5002)).toBe(5000);
    for (const strange of [0, 4999, 5003, Number.NaN]) expect(chooseUid(install, new Set([5000]), strange)).toBe(5001);
    expect(chooseUid(install, new Set([5000, 5001, 5002, 5003]), 5000)).toBeNull();
    expect([4999, 5000, 5002, 5003].map((uid) => isReservedUid(install, uid))).toEqual([false, true, true, false]);
  });
});

describe("mount points", () => {
  test("come last mounted first, with the kernel's escapes undone", () => {
    const info = [
      "24 1 8:1 / / rw - ext4 /dev/sda1 rw",
      "30 24 0:5 / /j/a rw - ext4 x rw",
      String.raw`31 30 0:5 / /j/a/b\040c\011d rw - ext4 x rw`,
      "",
    ].join("\n");
    expect(parseMounts(info)).toEqual(["/j/a/b c\td", "/j/a", "/"]);
  });
});

describe("ids of a task", () => {
  const status = (uids: string, gids: string, groups = "", state = "S (sleeping)"): string =>
    `Name:\tfirecracker\nState:\t${state}\nUid:\t${uids}\nGid:\t${gids}\nFDSize:\t5000\nGroups:\t${groups}\n`;
  const others = "1000\t1000\t1000\t1000";
  test.each([
    ["the real uid", status("5000\t1\t1\t1", others)],
    ["the effective uid", status("1\t5000\t1\t1", others)],
    ["the saved uid", status("1\t1\t5000\t1", others)],
    ["the uid of file access", status("1\t1\t1\t5000", others)],
    ["the saved gid", status(others, "1\t1\t5000\t1")],
    ["a supplementary group", status(others, others, "4 24 5000 ")],
  ])("%s counts", (_, text) => expect(hasId(text, 5000)).toBe(true));
  test("nothing else does, nor a task that ended", () => {
    expect(hasId(status(others, others, "50001 15000"), 5000)).toBe(false);
    expect(hasId(status("5000\t5000\t5000\t5000", others, "", "Z (zombie)"), 5000)).toBe(false);
    expect(hasId("", 5000)).toBe(false);
  });
});

test("a mount is found by its id", () => {
  const info = [
    "24 1 8:1 / / rw shared:1 - ext4 /dev/sda1 rw",
    "240 24 0:5 / /j rw,nosuid,nodev shared:1 master:2 - fuse.x x rw",
    "",
  ].join("\n");
  expect(parseMount(info, "24")).toEqual({ type: "ext4", options: ["rw"] });
  expect(parseMount(info, "240")).toEqual({ type: "fuse.x", options: ["rw", "nosuid", "nodev"] });
  expect(() => parseMount(info, "2")).toThrow("no mount 2");
});

test("a device of the kernel's own list is found by its whole name", () => {
  expect(findMiscDevice("232 kvm\n126 userfaultfd\n 10 userfaultfd2\n", "userfaultfd")).toBe(126);
  expect(findMiscDevice("232 kvm\n", "userfaultfd")).toBeNull();
});

test("the jailer's command takes its uid, program and base from root's side", () => {
  const words = jailerCommand(
    { paths: systemPaths() },
    { vm: "0123456789ab" as never, vcpu: 2, memory_mib: 1024 },
    200_007,
    {
      firecracker: "/usr/local/lib/banger/firecracker/1.16.1/firecracker",
      jailer: "/usr/local/lib/banger/firecracker/1.16.1/jailer",
    },
    { device: { major: 253, minor: 7 }, largestBytes: 3 * 1024 ** 3 },
    126,
  );
  expect(words.join(" ")).toBe(
    "--scope --collect --quiet --slice=banger-vms.slice --unit=banger-vm-0123456789ab.scope " +
      "--property=MemoryMax=1280M --property=MemorySwapMax=0 --property=CPUQuota=300% --property=TasksMax=40 " +
      "--property=IPAddressDeny=any --property=DevicePolicy=closed --property=DeviceAllow=/dev/kvm rwm " +
      "--property=DeviceAllow=/dev/net/tun rwm --property=DeviceAllow=/dev/char/10:126 rwm " +
      "--property=DeviceAllow=/dev/block/253:7 rw -- " +
      "/usr/local/lib/banger/firecracker/1.16.1/jailer --id 0123456789ab " +
      "--exec-file /usr/local/lib/banger/firecracker/1.16.1/firecracker --uid 200007 --gid 200007 " +
      "--chroot-base-dir /var/lib/banger/jail --cgroup-version 2 --resource-limit no-file=4096 " +
      `--resource-limit fsize=${67 * 1024 ** 3} ` +
      "--daemonize --new-pid-ns -- --api-sock /io/api.sock",
  );
});

describe("firewall rules", () => {
  const guest = { guestIp: "172.16.0.2", tap: "tap-pool-1" };
  const wanted = natRules(guest, "br-fc", "eth0");
  /** What `iptables-save` prints when lines were applied, for the few forms of line that are used here. */
  const save = (filter: readonly string[], nat: readonly string[] = [], chain = true): string =>
    ["# a comment", "*nat", ":POSTROUTING ACCEPT [0:0]", ...nat, "COMMIT", "*filter", ":FORWARD DROP [7:9]"].join(
      "\n",
    ) + `\n${chain ? ":BANGER-FORWARD - [0:0]\n" : ""}${[...filter, "COMMIT", ""].join("\n")}`;
  const drops = ["-i", "-o"].map((way) => `-A BANGER-FORWARD ${way} br-fc -m comment --comment br-fc -j DROP`);

  test("a clean host gets the chain, asked first, with its drops", () => {
    expect(planBridge(parseRuleset(save(["-A FORWARD -j DOCKER-USER"], [], false)), "br-fc")).toEqual({
      filter: [":BANGER-FORWARD - [0:0]", "-I FORWARD 1 -j BANGER-FORWARD", ...drops],
      nat: [],
    });
  });

  test("a chain that is no longer first is asked first again, once", () => {
    const there = ["-A FORWARD -j DOCKER-USER", "-A FORWARD -j BANGER-FORWARD", ...drops];
    expect(planBridge(parseRuleset(save(there)), "br-fc").filter).toEqual([
      "-D FORWARD -j BANGER-FORWARD",
      "-I FORWARD 1 -j BANGER-FORWARD",
    ]);
  });

  test("what is as it should be is left alone", () => {
    // With the quotes that the tool puts around some comments.
    const printed = save(["-A FORWARD -j BANGER-FORWARD", ...wanted.filter, ...drops], wanted.nat);
    const rules = parseRuleset(printed.replaceAll(/--comment (banger-\S+)/g, '--comment "$1"'));
    expect(planBridge(rules, "br-fc")).toEqual({ filter: [], nat: [] });
    expect(planNat(rules, guest, wanted)).toEqual({ filter: [], nat: [] });
  });

  test("rules of an older uplink, and doubled ones, go; another guest's and the host's own stay", () => {
    const old = natRules(guest, "br-fc", "wlan0");
    const other = natRules({ guestIp: "172.16.0.22", tap: "tap-pool-1" }, "br-fc", "eth0");
    const hosts = "-A POSTROUTING -s 172.16.0.2/32 -o eth0 -j MASQUERADE";
    const rules = parseRuleset(
      save([...old.filter, ...other.filter], [hosts, ...old.nat, ...wanted.nat, ...other.nat]),
    );
    expect(planNat(rules, guest, wanted)).toEqual({
      filter: [
        ...old.filter.map((rule) => rule.replace("-A", "-D")),
        ...wanted.filter.map((rule) => rule.replace(/^-A (\S+)/, "-I $1 1")),
      ],
      nat: [
        ...[...old.nat, ...wanted.nat].map((rule) => rule.replace("-A", "-D")),
        ...wanted.nat.map((rule) => rule.replace(/^-A (\S+)/, "-I $1 1")),
      ],
    });
    const gone = planNat(rules, guest, { filter: [], nat: [] });
    expect(
      [...gone.filter, ...gone.nat].every((rule) => rule.startsWith("-D ") && rule.includes("tap-pool-1-172.16.0.2 ")),
    ).toBe(true);
  });
});

describe("device mapper's structures", () => {
  test("a table: each target says where the next one is, from its own beginning", () => {
    const bytes = encodeTargets([
      { start: 0, length: 8, type: "linear", parameters: "/dev/loop0 0" },
      { start: 8, length: 2 ** 33, type: "zero", parameters: "" },
    ]);
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    const text = (at: number): string => new TextDecoder().decode(bytes.subarray(at)).replace(/\0.*$/s, "");
    const next = view.getUint32(20, true);
    expect([text(24), text(40), next]).toEqual(["linear", "/dev/loop0 0", 40 + 16]);
    expect([view.getBigUint64(next, true), view.getBigUint64(next + 8, true)]).toEqual([8n, 2n ** 33n]);
    expect([text(next + 24), text(next + 40)]).toEqual(["zero", ""]);
    expect(next + view.getUint32(next + 20, true)).toBe(bytes.length);
  });

  test.each([
    [0xfd00n, 253, 0],
    [0xfd03n, 253, 3],
    [0x1fd2an, 509, 42],
    [0x1000fd00n, 253, 0x10000],
  ])("device number %p", (device, major, minor) => {
    expect(splitDevice(device)).toEqual({ major, minor });
  });
});
