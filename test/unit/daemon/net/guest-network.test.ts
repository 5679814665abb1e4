import { beforeEach, describe, expect, test } from "bun:test";
import { GuestNetwork } from "../../../../src/daemon/net/guest-network.ts";
import type { Privileged } from "../../../../src/daemon/privileged.ts";
import { BangerError } from "../../../../src/shared/errors.ts";

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
    return {};
  },
} as unknown as Privileged;

const make = (poolSize: number, ip: string | null = null): GuestNetwork =>
  new GuestNetwork({
    privileged,
    log: {
      debug: () => undefined,
      info: () => undefined,
      warn: (message) => void warnings.push(message),
      error: () => undefined,
    },
    settings: { bridge: "br-fc", ip, prefix: 24, poolSize },
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
