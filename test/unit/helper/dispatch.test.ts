import { describe, expect, test } from "bun:test";
import { HELPER_VERBS, HELPER_VERSION, type HelperVerbName } from "../../../src/shared/contract/helper-api.ts";
import { systemPaths } from "../../../src/shared/places/paths.ts";
import { createDispatch } from "../../../src/helper/dispatch.ts";
import { GOOD_INPUTS } from "../../support/helper-inputs.ts";

const dispatch = createDispatch({
  paths: systemPaths("/nonexistent"),
  install: { owner: { uid: 1000, gid: 1000, name: "dev" }, vm_ids: { first: 200_000, count: 10 } },
  cgroupRoot: "/nonexistent",
});
const ask = async (method: string, params: unknown, more: Readonly<Record<string, unknown>> = {}) =>
  await dispatch({ v: HELPER_VERSION, method, params, op: null, ...more });

describe("the dispatcher", () => {
  test("answers a ping, with the operation in the outcome", async () => {
    const { answer, outcome, op, method } = await ask("priv.ping", {}, { op: "op-0123456789ab" });
    expect(answer).toMatchObject({ result: { helper_version: HELPER_VERSION, owner_uid: 1000 } });
    expect({ outcome, op, method }).toEqual({ outcome: "ok", op: "op-0123456789ab", method: "priv.ping" });
  });

  test.each(["priv.exec", "ping", "__proto__", "constructor", "toString", ""])("knows no method %j", async (method) => {
    const { answer, method: logged } = await ask(method, {});
    expect(answer).toMatchObject({ error: { code: "INVALID_REQUEST" } });
    // What a stranger calls a method doesn't reach the log.
    expect(logged).toBeNull();
  });

  test.each([null, [], "x", 1, { v: 1 }, { v: HELPER_VERSION + 1, method: "priv.ping", params: {}, op: null }])(
    "refuses %j as an envelope",
    async (request) => expect((await dispatch(request)).answer).toMatchObject({ error: { code: "INVALID_REQUEST" } }),
  );

  test("repeats nothing of what was sent", async () => {
    const secret = "c2VjcmV0IQ==-no-kernel";
    const { answer, reason } = await ask("priv.launch_firecracker", {
      ...GOOD_INPUTS["priv.launch_firecracker"],
      kernel: secret,
    });
    expect(answer).toMatchObject({ error: { code: "INVALID_REQUEST" } });
    expect(JSON.stringify([answer, reason])).not.toContain("c2Vj");
    expect(reason).toContain("params.kernel");
  });

  test.each(Object.keys(HELPER_VERBS) as HelperVerbName[])("%s refuses a key too many before it acts", async (name) => {
    const { answer } = await ask(name, { ...GOOD_INPUTS[name], command: "id" });
    expect(answer).toMatchObject({ error: { code: "INVALID_REQUEST", message: expect.stringContaining("command") } });
  });

  test.each([
    ["priv.ensure_bridge", { bridge: "eth0", ip: "172.16.0.1", prefix: 24 }],
    ["priv.create_tap", { tap: "eth0", bridge: "br-fc", guest_ip: "172.16.0.2" }],
    ["priv.create_tap", { tap: "tap-pool-1", bridge: "docker0", guest_ip: "172.16.0.2" }],
    ["priv.delete_tap", { tap: "docker0" }],
    ["priv.ensure_nat", { guest_ip: "8.8.8.8", tap: "tap-pool-1", enable: true }],
    ["priv.probe_nat", { guest_ip: "172.16.0.2", tap: "eth0" }],
    ["priv.probe_nat", { guest_ip: "192.0.2.1", tap: "tap-pool-1" }],
    ["priv.sync_resolver_routing", { bridge: "eth0", resolver: "127.0.0.1" }],
    ["priv.clear_resolver_routing", { bridge: "eth0" }],
    ["priv.signal_process", { vm: "0123456789ab", signal: "STOP" }],
    ["priv.launch_firecracker", { ...GOOD_INPUTS["priv.launch_firecracker"], tap: "eth0" }],
  ])("%s %j is refused by its gate", async (method, params) => {
    expect((await ask(method, params)).answer).toMatchObject({ error: { code: "HELPER_REFUSED" } });
  });
});
