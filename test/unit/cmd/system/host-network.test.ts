import { expect, test } from "bun:test";
import { deletionsOf } from "../../../../src/cmd/system/host-network.ts";

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
