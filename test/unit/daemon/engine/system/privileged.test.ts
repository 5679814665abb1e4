import { afterEach, beforeEach, expect, test } from "bun:test";
import { mkdtemp, rm } from "node:fs/promises";
import { createServer } from "node:net";
import { join } from "node:path";
import * as v from "valibot";
import { createPrivileged, withOperation } from "../../../../../src/daemon/engine/system/privileged.ts";
import { BangerError } from "../../../../../src/shared/errors.ts";
import { VmId } from "../../../../../src/shared/contract/schemas.ts";
import { startFakeHelper } from "../../../../support/fake-helper.ts";

const vm = v.parse(VmId, "0123456789ab");
const quick = { patienceMs: 300, answerMs: 1000 };
let dir: string;
let path: string;

beforeEach(async () => {
  dir = await mkdtemp("/tmp/bt-priv-");
  path = join(dir, "helper.sock");
});
afterEach(async () => await rm(dir, { recursive: true, force: true }));

test("a verb's answer comes back, and the operation's id goes along", async () => {
  await using helper = await startFakeHelper(path, {
    "priv.kill_process": () => ({ killed: true }),
  });
  const privileged = createPrivileged(path, quick);
  expect(
    await withOperation("op-0123456789ab", async () => {
      await Bun.sleep(1);
      return await privileged.call("priv.kill_process", { vm });
    }),
  ).toEqual({ killed: true });
  expect(helper.calls).toEqual([{ verb: "priv.kill_process", input: { vm }, op: "op-0123456789ab" }]);
  await privileged.call("priv.kill_process", { vm });
  expect(helper.calls[1]?.op).toBeNull();
});

test("the helper's error keeps its code", async () => {
  await using _helper = await startFakeHelper(path, {
    "priv.delete_tap": () => {
      throw new BangerError("IN_USE", "tap-pool-1 is attached");
    },
  });
  await expect(createPrivileged(path, quick).call("priv.delete_tap", { tap: "tap-pool-1" })).rejects.toMatchObject({
    code: "IN_USE",
    message: "tap-pool-1 is attached",
  });
});

test("an answer of another form is a version mismatch", async () => {
  await using _helper = await startFakeHelper(path, {
    "priv.kill_process": () => ({ killed: "yes" }) as never,
  });
  await expect(createPrivileged(path, quick).call("priv.kill_process", { vm })).rejects.toMatchObject({
    code: "VERSION_MISMATCH",
  });
});

test("a call waits for a helper that is being restarted", async () => {
  const call = createPrivileged(path, { ...quick, patienceMs: 5000 }).call("priv.kill_process", { vm });
  await Bun.sleep(50);
  await using _helper = await startFakeHelper(path, { "priv.kill_process": () => ({ killed: false }) });
  expect(await call).toEqual({ killed: false });
});

test("a call whose connection broke is made again", async () => {
  await using helper = await startFakeHelper(path, { "priv.kill_process": () => ({ killed: false }) });
  helper.hangUps = 2;
  expect(await createPrivileged(path, { ...quick, patienceMs: 5000 }).call("priv.kill_process", { vm })).toEqual({
    killed: false,
  });
  expect(helper.calls).toHaveLength(3);
});

test("a launch whose connection broke is not", async () => {
  await using helper = await startFakeHelper(path, {
    "priv.launch_firecracker": () => {
      throw new BangerError("VMM_FAILED", "never seen");
    },
  });
  helper.hangUps = 1;
  await expect(
    createPrivileged(path, { ...quick, patienceMs: 5000 }).call("priv.launch_firecracker", {
      vm,
      kernel: "k",
      initrd: true,
      root: "snapshot",
      tap: null,
      vcpu: 1,
      memory_mib: 256,
    }),
  ).rejects.toMatchObject({ code: "HELPER_UNREACHABLE" });
  expect(helper.calls).toHaveLength(1);
});

test("no helper, and one that never answers", async () => {
  await expect(createPrivileged(path, quick).call("priv.ping", {})).rejects.toMatchObject({
    code: "HELPER_UNREACHABLE",
  });
  const silent = createServer(() => undefined);
  await new Promise<void>((resolve) => silent.listen(path, resolve));
  await expect(createPrivileged(path, { ...quick, answerMs: 50 }).call("priv.ping", {})).rejects.toThrow(
    "did not answer within",
  );
  silent.close();
});
