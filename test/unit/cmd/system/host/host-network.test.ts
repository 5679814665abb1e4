import { expect, test } from "bun:test";
import { deletionsOf, policyDeletionsOf, spoofDeletionsOf } from "../../../../../src/cmd/system/host/host-network.ts";

test("only banger's own rules are deleted, wherever they stand", () => {
  const printed = [
    "-P FORWARD DROP",
    "-N BANGER-FORWARD",
    "-N DOCKER-USER",
    "-A FORWARD -j BANGER-FORWARD",
    "-A FORWARD -j DOCKER-USER",
    '-A FORWARD -s 172.16.0.2/32 -m comment --comment "banger-nat-tap-pool-0-172.16.0.2" -j ACCEPT',
    '-A FORWARD -m comment --comment "not banger-nat- at all" -j ACCEPT',
    "-A BANGER-FORWARD -i br-fc -m comment --comment br-fc -j DROP",
    "-A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE",
  ].join("\n");
  expect(deletionsOf(printed).slice(0, 2)).toEqual([
    ["-D", "FORWARD", "-j", "BANGER-FORWARD"],
    [
      "-D",
      "FORWARD",
      "-s",
      "172.16.0.2/32",
      "-m",
      "comment",
      "--comment",
      "banger-nat-tap-pool-0-172.16.0.2",
      "-j",
      "ACCEPT",
    ],
  ]);
  expect(deletionsOf(printed)).toHaveLength(2);
});

test("of policy rules only those of banger's form at its preferences are deleted", () => {
  const printed = [
    "0:\tfrom all lookup local",
    "4200:\tfrom all iif br-fc prohibit",
    "4201:\tfrom all fwmark 0x2000000/0x2000000 iif br-fc goto 4203",
    "4201:\tfrom all fwmark 0x2000000/0x2000000 iif br-fc-b [detached] goto 4203",
    "4202:\tfrom all iif br-fc prohibit",
    "4202:\tfrom all iif eth0 prohibit",
    "4202:\tfrom 10.0.0.0/8 lookup 77",
    "4203:\tfrom all nop",
    "32766:\tfrom all lookup main",
  ].join("\n");
  const rule = ["-4", "rule", "delete", "pref"];
  expect(policyDeletionsOf(printed)).toEqual([
    [...rule, "4201", "iif", "br-fc"],
    [...rule, "4201", "iif", "br-fc-b"],
    [...rule, "4202", "iif", "br-fc"],
    [...rule, "4203"],
  ]);
});

test("of ebtables' only what an earlier version wrote is deleted", () => {
  const printed = [
    "-p IPv4 -i ! tap-pool-2 --ip-src 172.16.0.2 -j DROP ",
    "-p IPv4 -i ! eth0 --ip-src 10.0.0.1 -j DROP",
  ];
  expect(spoofDeletionsOf(printed.join("\n"))).toEqual([
    ["-D", "INPUT", "-p", "IPv4", "!", "-i", "tap-pool-2", "--ip-src", "172.16.0.2", "-j", "DROP"],
  ]);
});
