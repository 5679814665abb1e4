import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { mkdtemp, rm } from "node:fs/promises";
import { join } from "node:path";
import { BangerError } from "../../../../src/shared/errors.ts";
import type { Guest } from "../../../../src/daemon/guest/guest.ts";
import { isPanicBeforeInit, readTail, type StartingGuest, waitUntilReady } from "../../../../src/daemon/guest/ready.ts";
import { identifyProcess } from "../../../../src/daemon/host/processes.ts";
import type { ProcessIdentity } from "../../../../src/daemon/engine/vmm.ts";
import type { AgentReady } from "../../../../src/shared/agent/answers.ts";
import { guestAddress } from "../../../support/guest-address.ts";

const BOOT_ID = "5a12308d-0efe-45c8-ad54-b1c3cc5274fb";
const address = guestAddress;
/** As of a guest without an agent. */
const READY = { bootId: BOOT_ID, agent: null };
const { signal } = new AbortController();

let dir: string;
let serialLogPath: string;
let vmmLogPath: string;
let me: ProcessIdentity;
beforeEach(async () => {
  dir = await mkdtemp("/tmp/banger-ready-");
  serialLogPath = join(dir, "serial.log");
  vmmLogPath = join(dir, "vmm.log");
  const identity = await identifyProcess(process.pid);
  if (identity === null) throw new Error("not alive");
  me = identity;
});
afterEach(async () => {
  await rm(dir, { recursive: true, force: true });
});

/** A guest whose sshd answers from the n-th probe on, and whose command says `stdout`. */
function fakeGuest(answersFrom: number, stdout = `${BOOT_ID}\n`): Guest & { probes: number } {
  const guest = {
    probes: 0,
    answers: async () => await Promise.resolve(++guest.probes >= answersFrom),
    open: async () => {},
    run: async () => await Promise.resolve({ exitCode: 0, stdout, stderr: "" }),
  };
  return guest as unknown as Guest & { probes: number };
}

const vm = (identity: ProcessIdentity, waitForAgent: StartingGuest["waitForAgent"] = null): StartingGuest => ({
  name: "box",
  process: identity,
  serialLogPath,
  vmmLogPath,
  waitForAgent,
});

describe("waitUntilReady for a guest in a jail", () => {
  const jailed = { ...address, jailRoot: "/nowhere" };
  const refusing = (times: number): Guest & { opens: number; probes: number } => {
    const guest = {
      ...fakeGuest(Infinity),
      opens: 0,
      open: async () => {
        if (++guest.opens <= times) throw new BangerError("GUEST_NOT_READY", "hung up");
      },
    };
    return guest as unknown as Guest & { opens: number; probes: number };
  };
  test("asks with the connection it keeps, never with one for nothing", async () => {
    const guest = refusing(0);
    expect(await waitUntilReady(guest, jailed, vm(me), 5000, signal)).toEqual(READY);
    expect([guest.opens, guest.probes]).toEqual([1, 0]);
  });
  test("a guest that hangs up is asked again", async () => {
    const guest = refusing(2);
    expect(await waitUntilReady(guest, jailed, vm(me), 5000, signal)).toEqual(READY);
    expect(guest.opens).toBe(3);
  });
  test("a panic ends the wait, and the connection that waits", async () => {
    await Bun.write(serialLogPath, "[    1.0] Kernel panic - not syncing: VFS\n");
    let aborted = false;
    const guest = {
      ...fakeGuest(0),
      open: async (_address: unknown, _ms: number, stop: AbortSignal) => {
        await new Promise<void>((_resolve, reject) => {
          stop.addEventListener("abort", () => {
            aborted = true;
            reject(new Error("aborted"));
          });
        });
      },
    } as unknown as Guest;
    await expect(waitUntilReady(guest, jailed, vm(me), 5000, signal)).rejects.toThrow("panicked");
    expect(aborted).toBe(true);
  });
});

describe("waitUntilReady", () => {
  test("a guest whose first process never begins is given up before the deadline", async () => {
    const never = async (_ms: number, until: AbortSignal): Promise<AgentReady> =>
      await new Promise((_resolve, reject) => {
        until.addEventListener("abort", () => reject(new BangerError("CANCELLED", "cancelled")));
      });
    const lost = { ...vm(me, never), hasBegun: () => false };
    const failure = waitUntilReady(fakeGuest(Infinity), address, lost, 3000, signal);
    await expect(failure).rejects.toMatchObject({ code: "GUEST_NOT_READY", details: { lost: "before init" } });
    const slow = { ...vm(me, never), hasBegun: () => true };
    const late = waitUntilReady(fakeGuest(Infinity), address, slow, 3000, signal);
    await expect(late).rejects.toThrow("did not answer within 3 s");
  });

  test("probes until sshd answers, then tells the boot id", async () => {
    const guest = fakeGuest(4);
    expect(await waitUntilReady(guest, address, vm(me), 5000, signal)).toEqual(READY);
    expect(guest.probes).toBe(4);
  });

  test("past the deadline the console's last lines are in the error", async () => {
    await Bun.write(serialLogPath, `${Array.from({ length: 50 }, (_, index) => `line ${index}`).join("\n")}\n`);
    const failure = await waitUntilReady(fakeGuest(Infinity), address, vm(me), 100, signal).catch(
      (thrown: unknown) => thrown,
    );
    const { message } = failure as Error;
    expect(message).toContain("line 30\n");
    expect(message).toContain("line 49");
    expect(message).not.toContain("line 29\n");
    expect(failure).toMatchObject({
      code: "GUEST_NOT_READY",
      details: { console: expect.arrayContaining(["line 30"]) },
    });
  });

  test("a panic ends the wait at once, also when the VMM went with it", async () => {
    await Bun.write(serialLogPath, "[    1.0] Kernel panic - not syncing: VFS\n");
    await expect(waitUntilReady(fakeGuest(Infinity), address, vm(me), 60_000, signal)).rejects.toMatchObject({
      code: "GUEST_NOT_READY",
      message: expect.stringContaining("panick"),
    });
    await expect(
      waitUntilReady(fakeGuest(Infinity), address, vm({ pid: me.pid, startTicks: "1" }), 60_000, signal),
    ).rejects.toMatchObject({ code: "GUEST_NOT_READY" });
  });

  test("a VMM that is gone ends the wait at once, and its last words are told", async () => {
    await Bun.write(vmmLogPath, "Received KVM_EXIT_SHUTDOWN signal\n");
    await expect(
      waitUntilReady(fakeGuest(Infinity), address, vm({ pid: me.pid, startTicks: "1" }), 60_000, signal),
    ).rejects.toMatchObject({ code: "VMM_FAILED", message: expect.stringContaining("KVM_EXIT_SHUTDOWN") });
  });

  test("an abort ends the wait", async () => {
    await expect(
      waitUntilReady(fakeGuest(Infinity), address, vm(me), 60_000, AbortSignal.timeout(50)),
    ).rejects.toThrow();
  });

  test("a guest that answers nonsense is not ready", async () => {
    await expect(waitUntilReady(fakeGuest(1, "\u001b]0;hello\n"), address, vm(me), 5000, signal)).rejects.toMatchObject(
      { code: "GUEST_NOT_READY" },
    );
  });
});

describe("waitUntilReady for a guest with an agent", () => {
  const DEADLINE_MS = 3000;
  const answer = (more: Partial<AgentReady> = {}): AgentReady => ({
    bootId: BOOT_ID,
    workDisk: true,
    isInit: false,
    ...more,
  });
  /** An agent that never answers; `ended` resolves when nobody waits for it any more. */
  function silentAgent() {
    const { promise: ended, resolve } = Promise.withResolvers<void>();
    const wait = async (_timeoutMs: number, stop: AbortSignal): Promise<AgentReady> =>
      await new Promise((_resolve, reject) => {
        stop.addEventListener("abort", () => {
          resolve();
          reject(new BangerError("CANCELLED", "cancelled"));
        });
      });
    return { wait, ended };
  }

  test.each([
    ["the agent's word counts, and sshd is not asked", answer()],
    ["so does that of an agent that is the guest's init", answer({ workDisk: false, isInit: true })],
  ])("%s", async (_, said) => {
    const guest = fakeGuest(1);
    const ready = await waitUntilReady(
      guest,
      address,
      vm(me, async () => said),
      DEADLINE_MS,
      signal,
    );
    expect(ready).toEqual({ bootId: BOOT_ID, agent: "answers" });
    expect(guest.probes).toBe(0);
  });

  test("an agent that left the work disk to the image is joined by sshd", async () => {
    const guest = fakeGuest(2);
    const said = async (): Promise<AgentReady> => answer({ workDisk: false });
    expect(await waitUntilReady(guest, address, vm(me, said), DEADLINE_MS, signal)).toEqual({
      bootId: BOOT_ID,
      agent: "answers",
    });
    expect(guest.probes).toBe(2);
  });

  test("one that stays silent is done without, and not waited for any longer", async () => {
    const { wait, ended } = silentAgent();
    expect(await waitUntilReady(fakeGuest(2), address, vm(me, wait), DEADLINE_MS, signal)).toEqual({
      bootId: BOOT_ID,
      agent: "silent",
    });
    await ended;
  });

  test("one that can't be waited for costs no time", async () => {
    const refuse = async (): Promise<AgentReady> => {
      throw new BangerError("GUEST_NOT_READY", "an agent of another version");
    };
    const guest = fakeGuest(1);
    expect((await waitUntilReady(guest, address, vm(me, refuse), 3_600_000, signal)).agent).toBe("silent");
  });

  test("one that answers late still comes before an sshd that doesn't", async () => {
    const guest = fakeGuest(Infinity);
    const late = async (): Promise<AgentReady> => {
      while (guest.probes === 0) await Bun.sleep(1);
      return answer();
    };
    expect(await waitUntilReady(guest, address, vm(me, late), DEADLINE_MS, signal)).toEqual({
      bootId: BOOT_ID,
      agent: "answers",
    });
  });

  test("a panic ends the wait for it at once", async () => {
    await Bun.write(serialLogPath, "[    1.0] Kernel panic - not syncing: VFS\n");
    const { wait, ended } = silentAgent();
    const guest = fakeGuest(1);
    await expect(waitUntilReady(guest, address, vm(me, wait), 3_600_000, signal)).rejects.toThrow("panicked");
    await ended;
    expect(guest.probes).toBe(0);
  });

  test("an abort ends it too", async () => {
    const { wait, ended } = silentAgent();
    await expect(
      waitUntilReady(fakeGuest(Infinity), address, vm(me, wait), 3_600_000, AbortSignal.timeout(50)),
    ).rejects.toThrow();
    await ended;
  });

  test("a bug is no silence", async () => {
    const broken = async (): Promise<AgentReady> => {
      throw new TypeError("a bug");
    };
    await expect(waitUntilReady(fakeGuest(1), address, vm(me, broken), DEADLINE_MS, signal)).rejects.toThrow("a bug");
  });
});

test("readTail reads no more than it was asked, and nothing of a file that isn't there", async () => {
  await Bun.write(serialLogPath, "0123456789");
  expect(await readTail(serialLogPath, 4)).toBe("6789");
  expect(await readTail(serialLogPath, 100)).toBe("0123456789");
  expect(await readTail(join(dir, "none"), 4)).toBe("");
});

describe("a panic before the guest's init", () => {
  const panic = "[    0.984001] Kernel panic - not syncing: Fatal exception\n";
  test.each([
    ["only the kernel spoke", `[    0.500000] PCI: no\r\n\r\n${panic}`, true],
    ["it spoke first", panic, true],
    [
      "systemd spoke, which resets the terminal",
      `[    0.500000] PCI: no\r\n\u001b[!p\u001b]104\u001b[?7h${panic}`,
      false,
    ],
    ["banger's initrd spoke", `banger: no root file system on /dev/vda\n${panic}`, false],
    ["there is none", "[    0.500000] PCI: no\n", false],
  ] as const)("%s", (_, console, expected) => {
    expect(isPanicBeforeInit(console)).toBe(expected);
  });
});
