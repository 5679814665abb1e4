import { beforeEach, describe, expect, test } from "bun:test";
import { GuestNetwork } from "../../../../../../src/daemon/engine/system/network/guest-network.ts";
import type { Privileged } from "../../../../../../src/daemon/engine/system/privileged.ts";
import { BangerError } from "../../../../../../src/shared/errors.ts";

let calls: string[];
/** What a verb's call waits for, by `verb tap`; and what refuses. */
let gates: Map<string, Promise<void>>;
let refusals: Map<string, BangerError[]>;
let warnings: string[];

const privileged = {
  call: async (verb: string, input: { readonly tap?: string }) => {
    const call = `${verb.slice("priv.".length)}${input.tap === undefined ? "" : ` ${input.tap}`}`;
    calls.push(call);
    await gates.get(call);
    const refusal = refusals.get(call)?.shift();
    if (refusal !== undefined) throw refusal;
    if (verb === "priv.ensure_nat") return { uplink: "eth0" };
    if (verb === "priv.probe_nat") return { forwarded: true, dropped_by: null, where: null };
    return {};
  },
} as unknown as Privileged;

const make = (poolSize: number, ip: string | null = null, prefix = 24): GuestNetwork =>
  new GuestNetwork({
    privileged,
    log: {
      debug: () => undefined,
      info: () => undefined,
      warn: (message) => void warnings.push(message),
      error: () => undefined,
    },
    settings: { bridge: "br-fc", ip, prefix, poolSize },
    readRoutes: () => [],
    onBridge: async () => {
      calls.push("told");
    },
  });

beforeEach(() => {
  calls = [];
  warnings = [];
  gates = new Map();
  refusals = new Map();
});

test("the bridge is made once, however many ask at once", async () => {
  const network = make(0);
  await Promise.all(["172.16.0.2", "172.16.0.3"].map(async (ip) => await network.attach(ip)));
  expect(calls.filter((call) => call === "ensure_bridge")).toHaveLength(1);
  expect(calls.filter((call) => call === "told")).toHaveLength(1);
});

test("a bridge that couldn't be made is tried again by the next", async () => {
  const network = make(0);
  refusals.set("ensure_bridge", [new BangerError("HELPER_REFUSED", "collides")]);
  await expect(network.attach("172.16.0.2")).rejects.toThrow("collides");
  expect(await network.attach("172.16.0.2")).toBe("tap-pool-2");
});

test("a bridge that somebody removed is made anew", async () => {
  const network = make(0);
  await network.ensureBridge();
  refusals.set("create_tap tap-pool-2", [new BangerError("FAILED", "there is no br-fc")]);
  await network.attach("172.16.0.2");
  expect(calls).toEqual([
    "ensure_bridge",
    "told",
    "create_tap tap-pool-2",
    "ensure_bridge",
    "told",
    "create_tap tap-pool-2",
  ]);
});

describe("taps made ahead", () => {
  test("of the next free addresses, and used without another call", async () => {
    const network = make(2);
    network.fillPool(new Set(["172.16.0.2"]));
    await network.settled();
    expect([...network.warm]).toEqual(["tap-pool-3", "tap-pool-4"]);
    calls = [];
    expect(await network.attach("172.16.0.3")).toBe("tap-pool-3");
    expect(calls).toEqual([]);
  });

  test("one that is being made when its guest comes is waited for, not made twice: that would take it from the guest", async () => {
    const network = make(1);
    const { promise, resolve } = Promise.withResolvers<void>();
    gates.set("create_tap tap-pool-2", promise);
    network.fillPool(new Set());
    while (!calls.includes("create_tap tap-pool-2")) await Bun.sleep(1);
    const attached = network.attach("172.16.0.2");
    await Bun.sleep(5);
    resolve();
    expect(await attached).toBe("tap-pool-2");
    await network.settled();
    expect(calls.filter((call) => call.startsWith("create_tap"))).toEqual(["create_tap tap-pool-2"]);
    expect(network.warm.size).toBe(0);
  });

  test("never one of a guest that has it, adopted or attached", async () => {
    const network = make(2);
    network.adopt("172.16.0.2");
    await network.attach("172.16.0.3");
    calls = [];
    network.fillPool(new Set());
    await network.settled();
    expect(calls).toEqual([]);
  });

  test("the first failure ends the batch, and is said", async () => {
    const network = make(3);
    refusals.set("create_tap tap-pool-2", [new BangerError("HELPER_REFUSED", "no more")]);
    network.fillPool(new Set());
    await network.settled();
    expect(calls.filter((call) => call.startsWith("create_tap"))).toHaveLength(1);
    expect(warnings).toHaveLength(1);
  });

  test("removed when there is no VM left", async () => {
    const network = make(2);
    network.fillPool(new Set(["172.16.0.2"]));
    network.fillPool(new Set(), 0);
    await network.settled();
    expect(network.warm.size).toBe(0);
    expect(calls.filter((call) => call.startsWith("delete_tap"))).toEqual([
      "delete_tap tap-pool-3",
      "delete_tap tap-pool-4",
    ]);
  });

  test("as many as the range has, when it has fewer", async () => {
    const network = make(64, "10.0.0.1");
    network.fillPool(new Set(Array.from({ length: 252 }, (_, index) => `10.0.0.${index + 2}`)));
    await network.settled();
    expect([...network.warm]).toEqual(["tap-pool-254"]);
  });
});

describe("doctor's packet", () => {
  const whole = [
    "ensure_bridge",
    "told",
    "create_tap tap-fc-doctor",
    "ensure_nat tap-fc-doctor",
    "probe_nat tap-fc-doctor",
    "ensure_nat tap-fc-doctor",
    "delete_tap tap-fc-doctor",
  ];

  test("has a tap and an address that are nobody's, and gives both back", async () => {
    const network = make(0);
    const inputs: unknown[] = [];
    const { call } = privileged;
    privileged.call = async (verb, input) => {
      inputs.push({ verb, ...input });
      return await call(verb, input);
    };
    const taken = new Set(["172.16.0.254", "172.16.0.253", "172.16.0.2"]);
    try {
      expect(await network.probeNat(taken)).toEqual({
        forwarded: true,
        dropped_by: null,
        where: null,
        uplink: "eth0",
      });
    } finally {
      privileged.call = call;
    }
    expect(calls).toEqual(whole);
    const guest = { guest_ip: "172.16.0.252", tap: "tap-fc-doctor" };
    expect(inputs.slice(-4)).toEqual([
      { verb: "priv.ensure_nat", ...guest, enable: true },
      { verb: "priv.probe_nat", ...guest },
      { verb: "priv.ensure_nat", ...guest, enable: false },
      { verb: "priv.delete_tap", tap: "tap-fc-doctor" },
    ]);
    expect(network.warm.size).toBe(0);
    expect(network.probeTurns).toBe(2);
  });

  test("is one, however many ask at once; the next is another", async () => {
    const network = make(0);
    await Promise.all([network.probeNat(new Set()), network.probeNat(new Set()), network.probeNat(new Set())]);
    expect(calls).toEqual(whole);
    await network.probeNat(new Set());
    expect(calls).toEqual([...whole, ...whole.slice(2)]);
  });

  test.each(["create_tap", "ensure_nat", "probe_nat"])("leaves nothing when %s fails, and says why", async (verb) => {
    const network = make(0);
    refusals.set(`${verb} tap-fc-doctor`, [new BangerError("NETWORK", "no way")]);
    await expect(network.probeNat(new Set())).rejects.toThrow("no way");
    expect(calls.slice(-2)).toEqual(["ensure_nat tap-fc-doctor", "delete_tap tap-fc-doctor"]);
    expect(network.probeTurns).toBe(2);
    expect(warnings).toEqual([]);
  });

  test("takes the tap away though the rules don't go, and says that something is left", async () => {
    const network = make(0);
    const end = Promise.withResolvers<void>();
    gates.set("probe_nat tap-fc-doctor", end.promise);
    const probing = network.probeNat(new Set());
    while (!calls.includes("probe_nat tap-fc-doctor")) await Bun.sleep(1);
    expect(network.probeTurns).toBe(1);
    refusals.set("ensure_nat tap-fc-doctor", [new BangerError("FAILED", "locked")]);
    end.resolve();
    expect((await probing).forwarded).toBe(true);
    expect(calls.at(-1)).toBe("delete_tap tap-fc-doctor");
    expect(warnings).toHaveLength(1);
  });

  test("takes the address of a tap made ahead, in a range with few: one address is one tap's", async () => {
    const network = make(1, "172.16.0.1", 30);
    network.fillPool(new Set());
    await network.settled();
    expect([...network.warm]).toEqual(["tap-pool-2"]);
    calls.length = 0;
    await network.probeNat(new Set());
    expect(calls.slice(0, 2)).toEqual(["delete_tap tap-pool-2", "create_tap tap-fc-doctor"]);
    expect(network.warm.size).toBe(0);
  });

  test("has given its address back before a VM's tap takes it", async () => {
    const network = make(0, "172.16.0.1", 30);
    const end = Promise.withResolvers<void>();
    gates.set("probe_nat tap-fc-doctor", end.promise);
    const probing = network.probeNat(new Set());
    while (!calls.includes("probe_nat tap-fc-doctor")) await Bun.sleep(1);
    const attaching = network.attach("172.16.0.2");
    end.resolve();
    await Promise.all([probing, attaching]);
    expect(calls.slice(-2)).toEqual(["delete_tap tap-fc-doctor", "create_tap tap-pool-2"]);
  });

  test("isn't sent where every address is a VM's", async () => {
    const network = make(0);
    const taken = new Set(Array.from({ length: 253 }, (_, index) => `172.16.0.${index + 2}`));
    await expect(network.probeNat(taken)).rejects.toThrow("every address");
    expect(calls).toEqual([]);
  });

  test("of a daemon that was killed leaves a tap that is no guest's to come", () => {
    const network = make(2);
    network.rememberPool(["tap-fc-doctor", "tap-pool-2"], new Set());
    expect([...network.warm]).toEqual(["tap-pool-2"]);
  });
});
