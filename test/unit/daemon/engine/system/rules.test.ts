import { beforeEach, expect, test } from "bun:test";
import { GuestRules } from "../../../../../src/daemon/engine/system/rules.ts";
import { keepLog } from "../../../../support/log.ts";
import { makeVm } from "../../../../support/vm-record.ts";

const withNat = (id: string, guestIp: string) =>
  makeVm({ id, guestIp, spec: { ...makeVm().spec, nat: true }, state: "running" });
const a = withNat("aaaaaaaaaaaa", "172.16.0.2");
const b = withNat("bbbbbbbbbbbb", "172.16.0.3");
const shut = makeVm({ id: "cccccccccccc", guestIp: "172.16.0.4", state: "running" });

let now: number;
let done: string[];
let broken: string | null;
let log: ReturnType<typeof keepLog>;
let rules: GuestRules;

function act(what: string): void {
  if (what === broken) throw new Error(`${what} is broken`);
  done.push(what);
}

/** One pass over the running VMs, as the patrol makes it. Returns what was done. */
async function pass(at: number, ...running: readonly (typeof a)[]): Promise<readonly string[]> {
  now = at;
  done = [];
  for (const vm of running) await rules.lookAfter(vm);
  return done;
}

beforeEach(() => {
  broken = null;
  log = keepLog();
  rules = new GuestRules(
    {
      reassureBridge: async () => act("bridge"),
      setNat: async (guestIp, enable) => act(`${enable ? "nat" : "no nat"} ${guestIp}`),
    },
    log,
    () => now,
  );
});

test("a flush is undone by one pass, whenever each VM was started", async () => {
  expect(await pass(0, a, shut)).toEqual(["bridge", "nat 172.16.0.2"]);
  // Started between two rounds, so its own 30 seconds would end later than the bridge's.
  expect(await pass(20_000, a, shut, b)).toEqual(["nat 172.16.0.3"]);
  expect(await pass(29_999, a, shut, b)).toEqual([]);
  expect(await pass(30_000, a, shut, b)).toEqual(["bridge", "nat 172.16.0.2", "nat 172.16.0.3"]);
  expect(await pass(30_001, a, shut, b)).toEqual([]);
});

test("the bridge comes before the NAT of any VM, whichever is looked after first", async () => {
  for (const [at, order] of [
    [0, [a, b, shut]],
    [30_000, [shut, b, a]],
    [60_000, [b, shut, a]],
  ] as const) {
    const [first, ...rest] = await pass(at, ...order);
    expect(first).toBe("bridge");
    expect(rest.toSorted()).toEqual(["nat 172.16.0.2", "nat 172.16.0.3"]);
  }
});

test("what fails is logged, and the others are checked all the same", async () => {
  broken = "bridge";
  expect(await pass(0, a, b)).toEqual(["nat 172.16.0.3"]);
  expect(log.lines).toMatchObject([{ level: "warn", fields: { vm: a.id, error: "bridge is broken" } }]);
  broken = `nat ${a.guestIp ?? ""}`;
  expect(await pass(30_000, a, b)).toEqual(["bridge", "nat 172.16.0.3"]);
  broken = null;
  expect(await pass(60_000, a, b)).toEqual(["bridge", "nat 172.16.0.2", "nat 172.16.0.3"]);
});
