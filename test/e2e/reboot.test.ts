/** What a guest does to its own power: a reboot starts the VM again, a power-off stops it. */

import { afterAll, beforeAll, expect, test } from "bun:test";
import { mkdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { eventually, type Home, makeHomeWithImage } from "../support/banger.ts";

const BOOT_MS = 400_000;
interface Vm {
  readonly state: string;
  readonly reason: string | null;
  readonly bootId: string | null;
  readonly pid: number | null;
}

let home: Home;
beforeAll(async () => {
  home = await makeHomeWithImage();
  await Bun.write(`${home.dir}/.config/banger/config.toml`, 'stats_poll_interval = "1s"\n');
}, 900_000);
afterAll(async () => {
  const { runtimeDir } = home;
  await home[Symbol.asyncDispose]();
  await rm(runtimeDir, { recursive: true, force: true });
});

const show = async (): Promise<Vm> => await home.json<Vm>(["vm", "show", "box"]);

test("reboot in the guest starts the VM again, with what it wrote and another boot id; poweroff stops it", async () => {
  // Long enough that a socket of the VM's would not fit below it: banger takes a short directory then, and everything
  // works, the commands below included, whose environment names another directory.
  const long = join(home.dir, "x".repeat(51));
  await mkdir(long, { mode: 0o700 });
  await home.ok(["vm", "create", "--name", "box", "--memory", "512M", "--vcpu", "1"], {
    timeoutMs: BOOT_MS,
    env: { XDG_RUNTIME_DIR: long },
  });
  expect(home.runtimeDir).toStartWith("/tmp/banger-runtime-");
  const first = await show();
  await home.ok([
    "exec",
    "box",
    "--",
    "sh",
    "-c",
    "echo kept > /root/kept; nohup sh -c 'sleep 1; reboot' >/dev/null 2>&1 &",
  ]);
  await eventually("started again", BOOT_MS, async () => {
    const { state, bootId } = await show();
    return state === "running" && bootId !== null && bootId !== first.bootId;
  });
  const second = await show();
  expect(second).toMatchObject({ state: "running", reason: null });
  expect(second.pid).not.toBe(first.pid);
  expect(await home.ok(["exec", "box", "--", "cat", "/root/kept"], { timeoutMs: BOOT_MS })).toBe("kept\n");
  expect((await home.ok(["exec", "box", "--", "cat", "/proc/sys/kernel/random/boot_id"])).trim()).toBe(
    second.bootId ?? "",
  );
  expect(await Bun.file(`${home.stateDir}/daemon.log`).text()).toContain("the guest rebooted, and is started again");

  await home.ok(["exec", "box", "--", "sh", "-c", "nohup sh -c 'sleep 1; poweroff' >/dev/null 2>&1 &"]);
  await eventually("stopped", BOOT_MS, async () => (await show()).state === "stopped");
  expect(await show()).toMatchObject({ reason: "the guest powered off, or its VMM ended" });
}, 1_800_000);
