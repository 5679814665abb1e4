import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { mkdtemp, rm } from "node:fs/promises";
import { join } from "node:path";
import * as v from "valibot";
import { createQemuVmm, parseSshPort, qemuArgv } from "../../../../../src/daemon/engine/rootless/qemu.ts";
import { AGENT_SERIAL_PORTS } from "../../../../../src/shared/agent/protocol.ts";
import type { LaunchPlan } from "../../../../../src/daemon/engine/vmm.ts";
import { VmId } from "../../../../../src/shared/contract/schemas.ts";

const plan = (more: Partial<LaunchPlan> = {}): LaunchPlan => ({
  id: v.parse(VmId, "0123456789ab"),
  name: "box",
  spec: { vcpu: 2, memoryMiB: 1024, diskBytes: 1, systemOverlayBytes: 1, nat: false },
  acceleration: "tcg",
  kernelPath: "/k/vmlinux",
  initrdPath: "/k/initrd",
  rootDiskPath: "/s/root.qcow2",
  workDiskPath: "/s/work.ext4",
  identityDiskPath: "/s/identity.img",
  serialLogPath: "/s/serial.log",
  vmmLogPath: "/s/vmm.log",
  runtimeDir: "/r",
  ...more,
});

/** The value after each occurrence of an option. */
function values(argv: readonly string[], option: string): readonly string[] {
  return argv.flatMap((word, index) => (word === option ? [argv[index + 1] ?? ""] : []));
}

const argvOf = (more: Partial<LaunchPlan> = {}): readonly string[] => qemuArgv(plan(more), 2_445_405);

describe("qemuArgv", () => {
  test("a comma in a path can't end the option it stands in", () => {
    const argv = argvOf({
      rootDiskPath: "/home/a,readonly=on/root.qcow2",
      workDiskPath: "/home/a,b/w",
      identityDiskPath: "/home/a,readonly=off/i",
      serialLogPath: "/home/a,b/s",
      runtimeDir: "/run/a,b",
    });
    expect(values(argv, "-drive")[0]).toEndWith("file=/home/a,,readonly=on/root.qcow2");
    expect(values(argv, "-drive")[1]).toEndWith("file=/home/a,,b/w");
    expect(values(argv, "-drive")[2]).toEndWith("file=/home/a,,readonly=off/i");
    expect(values(argv, "-chardev").every((value) => /path=\/(?:home|run)\/a,,b/.test(value))).toBe(true);
  });

  test("the identity disk is the third, raw and read-only; no other is", () => {
    const drives = values(argvOf(), "-drive");
    expect(drives.map((drive) => /id=(\w+)/.exec(drive)?.[1])).toEqual(["root", "work", "identity"]);
    expect(drives.map((drive) => drive.includes("readonly=on"))).toEqual([false, false, true]);
    expect(drives[2]).toContain("format=raw");
  });

  test("the whole sandbox, no defaults, no user configuration", () => {
    const argv = argvOf();
    expect(values(argv, "-sandbox")).toEqual([
      "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
    ]);
    expect(argv).toContain("-nodefaults");
    expect(argv).toContain("-no-user-config");
  });

  test("the guest reaches beyond the host only when asked, and sshd is behind the host's loopback", () => {
    expect(values(argvOf(), "-netdev")[0]).toContain("restrict=on");
    const open = argvOf({ spec: { ...plan().spec, nat: true } });
    expect(values(open, "-netdev")[0]).toContain("restrict=off");
    expect(values(open, "-netdev")[0]).toContain("hostfwd=tcp:127.0.0.1:");
  });

  test("workarounds that only emulation needs stay away from real hardware", () => {
    const kvm = values(argvOf({ acceleration: "kvm" }), "-append")[0] ?? "";
    const tcg = values(argvOf(), "-append")[0] ?? "";
    for (const word of ["mitigations=off", "tsc=reliable", "tsc_early_khz=2445405", "no_timer_check"]) {
      expect(tcg.split(" ")).toContain(word);
      expect(kvm.split(" ")).not.toContain(word);
    }
  });

  test("a counter whose rate nobody knows is left for the guest to measure", () => {
    expect(values(qemuArgv(plan(), null), "-append")[0]).not.toContain("tsc_early_khz");
  });

  test("every port of the agent has a socket and a name of its own, and the device room for all of them and its console", () => {
    const argv = argvOf();
    const sockets = values(argv, "-chardev").filter((value) => value.includes("agent."));
    const ports = values(argv, "-device").filter((value) => value.startsWith("virtserialport"));
    expect([new Set(sockets).size, new Set(ports).size]).toEqual([AGENT_SERIAL_PORTS, AGENT_SERIAL_PORTS]);
    expect(sockets[0]).toBe("socket,id=agent0,server=on,wait=off,path=/r/agent.0.sock");
    expect(ports.at(-1)).toBe("virtserialport,id=agent15,chardev=agent15,name=banger.agent.15");
    expect(values(argv, "-device")).toContain(`virtio-serial-device,max_ports=${AGENT_SERIAL_PORTS + 1}`);
  });

  test("no initrd, no option for one, and no agent that boots the guest", () => {
    expect(argvOf({ initrdPath: null })).not.toContain("-initrd");
    expect(values(argvOf({ initrdPath: null }), "-append")[0]).not.toContain("rdinit=");
    expect(values(argvOf(), "-append")[0]).toContain("rdinit=/banger-agent");
  });
});

describe("parseSshPort", () => {
  const USERNET = [
    "VLAN -1 (net):",
    "  Protocol[State]    FD  Source Address  Port   Dest. Address  Port RecvQ SendQ",
    "  TCP[ESTABLISHED]   21       127.0.0.1 40001       10.0.2.15    22     0     0",
    "  TCP[HOST_FORWARD]  17       127.0.0.1 40002       10.0.2.15    80     0     0",
    "  TCP[HOST_FORWARD]  18       127.0.0.1 34713       10.0.2.15    22     0     0",
    "  UDP[236 sec]       22       10.0.2.15 22          127.0.0.1    22     0     0",
  ].join("\r\n");

  test("finds the forward to port 22, not a connection through it", () => {
    expect(parseSshPort(USERNET)).toBe(34713);
  });

  test("is null where there is none", () => {
    expect(parseSshPort("")).toBeNull();
    expect(parseSshPort(USERNET.replace(/.*34713.*/, ""))).toBeNull();
  });
});

describe("the real program", () => {
  let dir: string;
  beforeEach(async () => {
    dir = await mkdtemp("/tmp/banger-qemu-");
  });
  afterEach(async () => {
    await rm(dir, { recursive: true, force: true });
  });
  const vmm = createQemuVmm();
  const here = (): LaunchPlan => {
    const id = v.parse(VmId, crypto.randomUUID().replaceAll("-", "").slice(0, 12));
    return plan({ id, vmmLogPath: join(dir, "vmm.log"), serialLogPath: join(dir, "serial.log"), runtimeDir: dir });
  };

  test("what QEMU says about a start that fails is in the error, and nothing is left running", async () => {
    const failing = here();
    const failure = await vmm.launch(failing, AbortSignal.timeout(20_000)).catch((thrown: unknown) => thrown);
    expect(failure).toMatchObject({ code: "VMM_FAILED", message: expect.stringMatching(/vmlinux|root\.qcow2/) });
    expect(await vmm.find(failing.id, dir)).toEqual([]);
  });

  test("a VM that doesn't run: nothing found, nothing to power down, destroying it is success", async () => {
    const { id } = here();
    expect(await vmm.find(id, dir)).toEqual([]);
    expect(await vmm.powerDown(id, dir)).toBe(false);
    await vmm.destroy(id, dir);
    await expect(vmm.endpoint(id, dir)).rejects.toMatchObject({ code: "VMM_FAILED" });
  });
});
