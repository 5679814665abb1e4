import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { chmodSync, copyFileSync, existsSync, mkdirSync, readFileSync, rmdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { createDispatch } from "../../src/helper/dispatch.ts";
import {
  findProcessOf,
  findVmProcess,
  killScope,
  listScopes,
  scopeCgroup,
  scopePids,
} from "../../src/helper/jail/scope.ts";
import { HELPER_VERSION } from "../../src/shared/contract/helper-api.ts";
import { hasEnded, openProcess, signalProcess } from "../../src/helper/sys/processes.ts";
import {
  become,
  canMakeCgroups,
  makeHost,
  OWNER,
  OTHER_VM_UID,
  plantPrograms,
  runAs,
  STRANGER,
  type TestHost,
  uidOf,
  VM,
} from "./support.ts";

let host: TestHost;
let uid: number;
const children: Bun.Subprocess[] = [];
const cgroup = (vm = VM): string => join(host.context.cgroupRoot, scopeCgroup(vm));

/** Returns the result or the error's code. */
async function call(method: string, params: unknown): Promise<unknown> {
  const { answer } = await createDispatch(host.context)({ v: HELPER_VERSION, method, params, op: null });
  return "result" in answer ? answer.result : answer.error.code;
}

beforeEach(() => {
  host = makeHost();
  uid = uidOf(host);
  mkdirSync(cgroup(), { recursive: true });
});
afterEach(async () => {
  for (const child of children.splice(0)) {
    child.kill("SIGKILL");
    await child.exited;
  }
  for (let path = cgroup(); path !== host.context.cgroupRoot; path = join(path, "..")) rmdirSync(path);
  host[Symbol.dispose]();
});

/** Starts a real program of that name, as that user, in the VM's scope by default. */
function start(name: string, options: { readonly uid?: number; readonly inside?: boolean } = {}): Bun.Subprocess {
  const directory = join(host.treasure, "..", "programs");
  mkdirSync(directory, { recursive: true });
  chmodSync(directory, 0o755);
  const program = join(directory, name);
  if (!existsSync(program)) copyFileSync("/bin/sleep", program);
  chmodSync(program, 0o755);
  const as = options.uid ?? uid;
  const child = Bun.spawn([program, "600"], {
    uid: as,
    gid: as,
    cwd: "/",
    env: {},
    stdio: ["ignore", "ignore", "ignore"],
  });
  children.push(child);
  if (options.inside ?? true) writeFileSync(join(cgroup(), "cgroup.procs"), String(child.pid));
  return child;
}
const ticksOf = (pid: number): string => {
  const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
  return stat.slice(stat.lastIndexOf(")") + 2).split(" ")[19] ?? "";
};

describe.skipIf(!canMakeCgroups())("a VM's process (needs cgroups that root may make)", () => {
  test("is found by scope, uid and name, and only while it runs", async () => {
    expect(await call("priv.find_firecracker_pid", { vm: VM })).toEqual({ process: null, uid });
    const child = start("firecracker");
    const process = { pid: child.pid, start_ticks: ticksOf(child.pid) };
    expect(await call("priv.find_firecracker_pid", { vm: VM })).toEqual({ process, uid });
    child.kill("SIGKILL");
    await child.exited;
    expect(await call("priv.find_firecracker_pid", { vm: VM })).toEqual({ process: null, uid });
  });

  test.each([
    ["another program in the scope", "sshd", {}],
    ["a firecracker outside the scope", "firecracker", { inside: false }],
    ["a firecracker of the owner in the scope", "firecracker", { uid: OWNER }],
    ["a firecracker of another VM's uid in the scope", "firecracker", { uid: OTHER_VM_UID }],
  ])("%s is not taken for it, nor signalled", async (_, name, options) => {
    const child = start(name, options);
    expect(await call("priv.find_firecracker_pid", { vm: VM })).toEqual({ process: null, uid });
    expect(await call("priv.signal_process", { vm: VM, signal: "TERM" })).toEqual({ sent: false });
    expect(await call("priv.signal_process", { vm: VM, signal: "KILL" })).toEqual({ sent: false });
    expect(child.exitCode).toBeNull();
    expect(child.signalCode).toBeNull();
  });

  test("a forged pid file in the jail leads nowhere", async () => {
    const bystander = start("sshd", { inside: false, uid: OWNER });
    const root = join(host.context.paths.jailDir, "firecracker", VM, "root");
    mkdirSync(root, { recursive: true });
    writeFileSync(join(root, "firecracker.pid"), String(bystander.pid));
    expect(await call("priv.find_firecracker_pid", { vm: VM })).toEqual({ process: null, uid });
    expect(await call("priv.kill_process", { vm: VM })).toEqual({ killed: false });
    expect(bystander.signalCode).toBeNull();
    expect(existsSync(`/proc/${bystander.pid}`)).toBe(true);
  });

  test("gets only the listed signals", async () => {
    const child = start("firecracker");
    for (const signal of ["STOP", "CONT", "SIGSTOP", "SEGV"]) {
      expect(await call("priv.signal_process", { vm: VM, signal })).toBe("HELPER_REFUSED");
    }
    expect(readFileSync(`/proc/${child.pid}/stat`, "utf8")).not.toMatch(/\) T /);
    expect(await call("priv.signal_process", { vm: VM, signal: "sigterm" })).toEqual({ sent: true });
    await child.exited;
    expect(child.signalCode).toBe("SIGTERM");
  });

  test("ends with everything it forked, whatever the names, and nothing else ends", async () => {
    const other = start("firecracker", { inside: false });
    const inside = [start("firecracker"), start("renamed"), start("firecracker", { uid: OWNER })];
    expect(listScopes(host.context)).toEqual([VM]);
    expect(scopePids(host.context, VM).toSorted()).toEqual(inside.map(({ pid }) => pid).toSorted());
    expect(await call("priv.cleanup_jailer_chroot", { vm: VM })).toBe("IN_USE");
    expect(await call("priv.release_vm", { vm: VM })).toBe("IN_USE");
    expect(await call("priv.kill_process", { vm: VM })).toEqual({ killed: true });
    for (const child of inside) {
      await child.exited;
      expect(child.signalCode).toBe("SIGKILL");
    }
    expect(other.signalCode).toBeNull();
    expect(await call("priv.kill_process", { vm: VM })).toEqual({ killed: false });
    // A process outside the scope still has the uid, so it isn't released.
    expect(await call("priv.release_vm", { vm: VM })).toBe("IN_USE");
    other.kill("SIGKILL");
    await other.exited;
    expect(await call("priv.release_vm", { vm: VM })).toEqual({});
    expect(await killScope(host.context, "ffffffffffff")).toBe(false);
  });

  test("held by its descriptor can't be mistaken for a later process with the same pid", async () => {
    const child = start("firecracker");
    using found = findVmProcess(host.context, VM);
    expect(found?.pid).toBe(child.pid);
    child.kill("SIGKILL");
    await child.exited;
    if (found === null) throw new Error("not found");
    expect(hasEnded(found.descriptor)).toBe(true);
    expect(() => signalProcess(found.descriptor, 9)).toThrow("ESRCH");
    expect(() => openProcess(child.pid)).toThrow("ESRCH");
  });
});

test.each([
  ["saved uid", "setresuid"],
  ["saved gid", "setresgid"],
] as const)(
  "a uid stays taken, and nothing is launched with it, while any process has it just as its %s",
  async (_, how) => {
    // As an accomplice has it after running a set-uid file that a VMM left.
    const accomplice = runAs(0, `${become(how, STRANGER, uid)} setInterval(() => {}, 1000);`);
    while ((await findProcessOf(uid)) === null) await Bun.sleep(5);
    expect(await call("priv.release_vm", { vm: VM })).toBe("IN_USE");
    plantPrograms(host);
    const launch = { vm: VM, kernel: "k", initrd: false, root: "file", tap: null, vcpu: 1, memory_mib: 128 };
    expect(await call("priv.launch_firecracker", launch)).toBe("IN_USE");
    await accomplice[Symbol.asyncDispose]();
    expect(await call("priv.release_vm", { vm: VM })).toEqual({});
  },
);

test("a VM's device is neither removed nor replaced while any process of the VM runs, and no node of it is left", async () => {
  // A removed device's number goes to the next one, which may be the host's.
  const root = join(host.context.paths.jailDir, "firecracker", VM, "root");
  mkdirSync(root, { recursive: true });
  expect(Bun.spawnSync(["mknod", join(root, "root-drive"), "b", "253", "0"]).exitCode).toBe(0);
  const child = start("renamed");
  host.ownersFile("images/lab/rootfs.ext4", "x".repeat(4096));
  expect(await call("priv.remove_dm_snapshot", { vm: VM, discard: true })).toBe("IN_USE");
  expect(await call("priv.create_dm_snapshot", { vm: VM, image: "lab", root_bytes: 512 * 1024 * 1024 })).toBe("IN_USE");
  expect(existsSync(join(root, "root-drive"))).toBe(true);
  child.kill("SIGKILL");
  await child.exited;
  expect(await call("priv.remove_dm_snapshot", { vm: VM, discard: true })).toEqual({});
  expect(existsSync(root)).toBe(false);
});
