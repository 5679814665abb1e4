import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { encodeAcl } from "../../../src/helper/jail/acl.ts";
import { cowBytesFor, rootBytesFor } from "../../../src/helper/disk/dm.ts";
import { parseMounts } from "../../../src/helper/jail/jail.ts";
import { findMiscDevice, jailerCommand } from "../../../src/helper/jail/launch.ts";
import { hasId } from "../../../src/helper/jail/scope.ts";
import {
  acceptRules,
  hasEarlierRules,
  isBridgeOfEarlierVersion,
  parseRuleset,
  parseSpoofRules,
  planAccepts,
} from "../../../src/helper/network/iptables.ts";
import { planPolicyRules } from "../../../src/helper/network/policy-rules.ts";
import { findHostile } from "../../../src/helper/sanitize.ts";
import { encodeTargets, splitDevice } from "../../../src/helper/sys/device-mapper.ts";
import { parseMount } from "../../../src/helper/sys/mounts.ts";
import { chooseUid, isReservedUid } from "../../../src/helper/jail/slots.ts";
import { BRIDGE_ALIAS, readMark, tapAlias } from "../../../src/shared/network/walls.ts";
import { systemPaths } from "../../../src/shared/places/paths.ts";

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

describe("iptables", () => {
  const save = (filter: readonly string[], nat: readonly string[] = [], chain = true): string =>
    ["# a comment", "*nat", ":POSTROUTING ACCEPT [0:0]", ...nat, "COMMIT", "*filter", ":FORWARD DROP [7:9]"].join(
      "\n",
    ) + `\n${chain ? ":BANGER-FORWARD - [0:0]\n" : ""}${[...filter, "COMMIT", ""].join("\n")}`;
  const jump = "-A FORWARD -j BANGER-FORWARD";
  const plan = (bridges: readonly string[], ...saved: Parameters<typeof save>): ReturnType<typeof planAccepts> =>
    planAccepts(parseRuleset(save(...saved)), bridges);
  const nothing = { filter: [], nat: [] };

  test("a clean host gets the chain, asked first, with accepts only", () => {
    const { filter, nat } = plan(["br-fc"], ["-A FORWARD -j DOCKER-USER"], [], false);
    expect(nat).toEqual([]);
    expect(filter).toEqual([":BANGER-FORWARD - [0:0]", ...acceptRules("br-fc"), "-I FORWARD 1 -j BANGER-FORWARD"]);
    // None lets anything new through but what our own tables marked.
    for (const rule of acceptRules("br-fc"))
      expect(rule).toMatch(
        / (?:-i br-fc -m mark --mark 0x2000000\/0x2000000|-o br-fc -m conntrack --ctstate RELATED,ESTABLISHED) -j ACCEPT$/,
      );
  });

  test("a chain that is no longer first is asked first again, once; one that is as it should be is left alone", () => {
    expect(plan(["br-fc"], ["-A FORWARD -j DOCKER-USER", jump, ...acceptRules("br-fc")]).filter).toEqual([
      "-D FORWARD -j BANGER-FORWARD",
      "-I FORWARD 1 -j BANGER-FORWARD",
    ]);
    expect(plan(["br-fc"], [jump, ...acceptRules("br-fc")])).toEqual(nothing);
  });

  test("without a guest with NAT there is none, and on a host that never had one nothing is done", () => {
    expect(plan([], [jump, ...acceptRules("br-fc")]).filter).toEqual([
      "-D FORWARD -j BANGER-FORWARD",
      "-F BANGER-FORWARD",
      "-X BANGER-FORWARD",
    ]);
    expect(plan([], ["-A FORWARD -j DOCKER-USER"], [], false)).toEqual(nothing);
  });

  test("rules of earlier versions go, with the quotes that the tool puts around some comments; others' stay", () => {
    const comment = '-m comment --comment "banger-nat-tap-pool-2-172.16.0.2"';
    const drop = "-A BANGER-FORWARD -i br-fc -m comment --comment br-fc -j DROP";
    const old: Parameters<typeof save> = [
      [jump, `-A BANGER-FORWARD -s 172.16.0.2/32 -i br-fc -o eth0 ${comment} -j ACCEPT`, drop],
      [
        `-A POSTROUTING -s 172.16.0.2/32 -o eth0 ${comment} -j MASQUERADE`,
        "-A POSTROUTING -s 172.16.0.2/32 -j MASQUERADE",
      ],
    ];
    const masquerade =
      "-D POSTROUTING -s 172.16.0.2/32 -o eth0 -m comment --comment banger-nat-tap-pool-2-172.16.0.2 -j MASQUERADE";
    expect(plan([], ...old).nat).toEqual([masquerade]);
    expect(plan(["br-fc"], ...old)).toEqual({
      filter: [":BANGER-FORWARD - [0:0]", ...acceptRules("br-fc")],
      nat: [masquerade],
    });
    const rules = parseRuleset(save(...old));
    expect([
      hasEarlierRules(rules),
      isBridgeOfEarlierVersion(rules, "br-fc"),
      isBridgeOfEarlierVersion(rules, "br-fc-x"),
    ]).toEqual([true, true, false]);
    expect(hasEarlierRules(parseRuleset(save([jump, ...acceptRules("br-fc")])))).toBe(false);
  });

  test("of ebtables only earlier versions' own rules are found", () => {
    const printed = [
      "Bridge chain: INPUT, entries: 3, policy: ACCEPT",
      "-p IPv4 -i ! tap-pool-2 --ip-src 172.16.0.2 -j DROP ",
      "-p IPv4 -i ! eth0 --ip-src 172.16.0.2 -j DROP",
      "-p IPv4 -i ! tap-pool-2 --ip-src 172.16.0.2 -j ACCEPT",
    ].join("\n");
    expect(parseSpoofRules(printed)).toEqual([
      ["INPUT", "-p", "IPv4", "!", "-i", "tap-pool-2", "--ip-src", "172.16.0.2", "-j", "DROP"],
    ]);
  });
});

describe("policy rules", () => {
  const there = [
    { priority: 0 },
    { priority: 4201, iif: "br-fc", fwmark: "0x2000000", fwmask: "0x2000000", goto: 4203 },
    { priority: 4202, iif: "br-fc", action: "prohibit" },
    { priority: 4203, nop: null },
    { priority: 32_766 },
  ];
  test("that are there are left alone, and what is missing is added, the gate's opening last", () => {
    expect(planPolicyRules(there, "br-fc")).toEqual([]);
    expect(planPolicyRules([{ priority: 0 }], "br-fc").map((line) => line.split(" ")[3])).toEqual([
      "4202",
      "4203",
      "4201",
    ]);
    expect(planPolicyRules(there, "br-fc-b")).toHaveLength(2);
  });
  test("of somebody's at the same preference don't count as ours", () => {
    const others = there.map((rule) => ({ ...rule, ...(rule.priority === 4202 ? { action: "blackhole" } : {}) }));
    expect(planPolicyRules(others, "br-fc")).toEqual(["rule add pref 4202 iif br-fc prohibit protocol kernel"]);
  });
});

describe("an interface's mark", () => {
  test("says bridge or tap, and for a tap its guest's address", () => {
    expect(readMark(BRIDGE_ALIAS)).toEqual({ kind: "bridge", guestIp: null });
    expect(readMark(tapAlias("172.16.0.2"))).toEqual({ kind: "tap", guestIp: "172.16.0.2" });
    for (const alias of [
      "",
      "banger",
      `${BRIDGE_ALIAS} `,
      "banger guest x",
      "a banger guest 172.16.0.2",
      `${tapAlias("172.16.0.2")} `,
    ])
      expect(readMark(alias)).toBeNull();
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
