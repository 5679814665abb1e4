import { expect, test } from "bun:test";
import { join } from "node:path";
import { SPEC_ARGS } from "../../../src/cmd/line/args.ts";
import { GUEST_BOUNDS } from "../../../src/shared/network/walls.ts";

const guide = await Bun.file(join(import.meta.dir, "../../../docs/guide.md")).text();

test("--nat says that a rootless guest reaches this host's loopback, which QEMU can't close, where it is explained", () => {
  expect(SPEC_ARGS.nat.description).toContain("loopback");
  expect(guide).toMatch(/`--nat` opens this host's loopback[^]*10\.0\.2\.2/);
});

test("the guide names the bounds on a guest with NAT as they are", () => {
  const { connections, newConnectionsPerSecond, newConnectionsAtOnce } = GUEST_BOUNDS;
  expect(guide.replaceAll("\n", " ")).toContain(
    `at most ${connections} connections at a time, and can open at most ${newConnectionsPerSecond} a second (${newConnectionsAtOnce} at once)`,
  );
});
