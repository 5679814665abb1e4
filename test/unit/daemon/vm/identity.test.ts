/** How a guest gets its keys and files, and that the host opens nothing for it that a guest has written. */

import { afterAll, afterEach, beforeEach, describe, expect, mock, test } from "bun:test";
import { existsSync } from "node:fs";
import { chmod, mkdir, mkdtemp, readFile, rm, stat, symlink, writeFile } from "node:fs/promises";
import * as os from "node:os";
import { join } from "node:path";
import { runTool } from "../../../../src/daemon/host/run-tool.ts";
import { createRootlessEngine } from "../../../../src/daemon/engine/rootless/engine.ts";
import { findLeftovers, removeLeftovers } from "../../../../src/daemon/vm/gc.ts";
import type { VmService } from "../../../../src/daemon/vm/service.ts";
import { rootlessPaths } from "../../../../src/shared/places/paths.ts";
import type { VmRecord } from "../../../../src/shared/contract/schemas.ts";
import { makeWorld, run, type World } from "../../../support/system-world.ts";

const MIB = 1024 ** 2;
const spec = { vcpu: 1, memoryMiB: 256, diskBytes: 64 * MIB, nat: false };
/** Programs that parse a file system. */
const PARSERS = ["debugfs", "e2fsck", "fsck.ext4", "resize2fs", "tune2fs", "dumpe2fs", "e2image", "blkid"];

let world: World;
let service: VmService;
let home: string;
const before = { PATH: process.env["PATH"] };
// Bun reads HOME once, as it starts.
const real = { ...os };
void mock.module("node:os", () => ({ ...real, homedir: () => home }));
afterAll(() => mock.module("node:os", () => real));

beforeEach(async () => {
  home = await mkdtemp("/tmp/bt-h-");
  world = await makeWorld({
    file_sync: [
      { host: "~/.tool", guest: "/root/.config/tool", mode: null },
      { host: "~/secret", guest: "/root/.secret", mode: 0o600 },
    ],
  });
  service = await world.start();
  await mkdir(join(home, ".tool"));
  await writeFile(join(home, ".tool/rc"), "settings", { mode: 0o640 });
  await writeFile(join(home, "secret"), "token", { mode: 0o644 });
});
afterEach(async () => {
  Object.assign(process.env, before);
  await world[Symbol.asyncDispose]();
  await rm(home, { recursive: true, force: true });
});

const create = async (start = true): Promise<VmRecord> =>
  await service.lifecycle.create({ name: "box", image: "debian", spec, start }, run);
const stateOf = (vm: VmRecord, name: string): string => join(world.paths.vmsDir, vm.id, name);
const workDisk = (vm: VmRecord): string => stateOf(vm, "work.ext4");

/** Puts programs first in the daemon's PATH that do what they are named for, and leave a line. Returns what was called. */
async function recordParsers(): Promise<() => Promise<readonly string[]>> {
  const dir = join(home, "recorders");
  const log = join(home, "called");
  await mkdir(dir);
  await writeFile(log, "");
  for (const name of PARSERS) {
    await writeFile(
      join(dir, name),
      `#!/bin/sh\nprintf '%s %s\\n' ${name} "$*" >> ${log}\nPATH=/usr/sbin:/usr/bin:/sbin:/bin exec ${name} "$@"\n`,
    );
    await chmod(join(dir, name), 0o755);
  }
  process.env["PATH"] = `${dir}:${before.PATH ?? ""}`;
  return async () => (await readFile(log, "utf8")).split("\n").filter((line) => line !== "");
}

/** What the guest of the last launch takes out of its identity disk: mode, owner, size and name of each entry. */
async function lastIdentity(): Promise<{ readonly entries: readonly string[]; get(path: string): Promise<string> }> {
  const archive = join(home, "identity.tar");
  await writeFile(archive, world.host.identities.at(-1) ?? "");
  const tar = async (...words: readonly string[]): Promise<string> =>
    (await runTool(["tar", "--numeric-owner", ...words], { timeoutMs: 10_000 })).stdout;
  const listed = (await tar("-tvf", archive)).trimEnd().split("\n");
  return {
    entries: listed.map((line) => line.replace(/^(\S+) (\S+) .* (\S+)$/, "$1 $2 $3")),
    get: async (path) => await tar("-xOf", archive, path),
  };
}

test("both engines do the same for a VM's identity, work disk and files: steps that both have are listed once", () => {
  const names = (steps: readonly { readonly name: string }[]): string[] => steps.map(({ name }) => name);
  const rootless = createRootlessEngine(rootlessPaths({}, home, 1000));
  const { engine: system } = service.parts;
  for (const engine of [rootless, system]) {
    expect(names(engine.createSteps)).toEqual(expect.arrayContaining(["vm-directory", "work-disk", "file-sync"]));
    expect(names(engine.startSteps)).toEqual(
      expect.arrayContaining(["runtime-directory", "identity", "launch", "ready"]),
    );
  }
  const same = (pick: "createSteps" | "startSteps"): readonly string[] =>
    names(rootless[pick]).filter((name) => names(system[pick]).includes(name));
  expect(same("createSteps")).toEqual(["vm-directory", "work-disk", "file-sync"]);
  expect(same("startSteps")).toEqual(["runtime-directory", "identity", "launch", "ready"]);
});

describe("on an installed system", () => {
  test("a new VM gets the files of [[file_sync]], as root's and with their modes, once", async () => {
    const vm = await create();
    const first = await lastIdentity();
    expect(first.entries).toEqual(
      expect.arrayContaining([
        "drwx------ 0/0 root/.config",
        "-rw-r----- 0/0 root/.config/tool/rc",
        "-rw------- 0/0 root/.secret",
        "-rw-r--r-- 0/0 root/.hushlogin",
        "-rw-r--r-- 0/0 has-files",
      ]),
    );
    expect(await first.get("root/.config/tool/rc")).toBe("settings");
    // The guest's own from here on: neither the host's changes nor a second copy reach it.
    expect(existsSync(stateOf(vm, "first-files.tar"))).toBe(false);
    await service.lifecycle.stop(vm.id, run);
    await service.lifecycle.start(vm.id, run);
    expect((await lastIdentity()).entries.filter((entry) => /root|has-files/.test(entry))).toEqual([]);
  });

  test("a VM that was never reached gets them at the next start", async () => {
    world.broken.add("priv.launch_firecracker");
    const vm = await create(false);
    await expect(service.lifecycle.start(vm.id, run)).rejects.toThrow();
    world.broken.clear();
    await service.lifecycle.start(vm.id, run);
    expect((await lastIdentity()).entries).toContain("-rw------- 0/0 root/.secret");
  });

  test("keys are the disk's at each start, and stand in no file while the VM is stopped", async () => {
    const vm = await create();
    const first = await lastIdentity();
    expect(first.entries[0]).toBe("-rw-r--r-- 0/0 banger-identity");
    expect(await first.get("identity/ssh_host_ed25519_key")).toBe(
      await readFile(stateOf(vm, "ssh_host_ed25519_key"), "utf8"),
    );
    expect((await stat(stateOf(vm, "identity.img"))).mode & 0o777).toBe(0o600);
    await service.lifecycle.stop(vm.id, run);
    expect(existsSync(stateOf(vm, "identity.img"))).toBe(false);
    await service.lifecycle.start(vm.id, run);
    expect(await (await lastIdentity()).get("identity/ssh_host_ed25519_key")).toBe(
      await first.get("identity/ssh_host_ed25519_key"),
    );
  });
});

describe("a file system that a guest has written is not opened", () => {
  const garbage = (): Uint8Array => crypto.getRandomValues(new Uint8Array(64 * 1024));
  const HOSTILE: readonly (readonly [name: string, write: (path: string) => Promise<void>])[] = [
    ["random bytes", async (path) => await writeFile(path, garbage(), { flag: "r+" })],
    [
      "a superblock that wants a repair",
      async (path) => {
        const bytes = new Uint8Array(await Bun.file(path).arrayBuffer());
        // Magic kept; errors seen (s_state), a journal to replay, orphans to look after.
        bytes[1024 + 0x3a] = 2;
        bytes[1024 + 0x60] = (bytes[1024 + 0x60] ?? 0) | 0x4;
        bytes[1024 + 0xe8] = 0x0c;
        await writeFile(path, bytes);
      },
    ],
    [
      "/.banger that leads elsewhere",
      async (path) =>
        void (await runTool(["debugfs", "-w", "-R", "symlink /.banger /etc", path], { timeoutMs: 10_000 })),
    ],
  ];

  test.each(HOSTILE)("%s: by create, start, stop, kill, set, gc and restart of the daemon", async (_, write) => {
    const vm = await create();
    await service.lifecycle.kill(vm.id, "SIGKILL");
    await write(workDisk(vm));
    const content = await Bun.file(workDisk(vm)).bytes();
    const called = await recordParsers();

    await service.lifecycle.start(vm.id, run);
    expect((await lastIdentity()).entries).toContain("-rw------- 0/0 identity/authorized_keys");
    await service.lifecycle.stop(vm.id, run);
    await service.lifecycle.set(vm.id, { diskBytes: 128 * MIB, systemOverlayBytes: 16 * 1024 * MIB });
    await service.lifecycle.start(vm.id, run);
    expect((await lastIdentity()).entries).toContain("-rw-r--r-- 0/0 grown");
    await service.lifecycle.kill(vm.id, "SIGKILL");
    service = await world.start();
    await removeLeftovers(await findLeftovers(service.parts));
    await service.parts.engine.examine(run.signal);
    await service.lifecycle.start(vm.id, run);
    expect((await lastIdentity()).entries).not.toContain("-rw-r--r-- 0/0 grown");

    expect(await called()).toEqual([]);
    expect((await stat(workDisk(vm))).size).toBe(128 * MIB);
    expect(Buffer.compare(await Bun.file(workDisk(vm)).slice(0, content.length).bytes(), content)).toBe(0);
  });
});

describe("a VM whose image reads no identity disk", () => {
  const cat = async (vm: VmRecord, path: string): Promise<string> =>
    (await runTool(["debugfs", "-R", `cat ${path}`, workDisk(vm)], { timeoutMs: 10_000 })).stdout;

  test("new: its keys and files are on the work disk before its first start, and on no file system after that", async () => {
    world.readsIdentity = false;
    const vm = await create();
    expect(await cat(vm, "/.banger/ssh_host_ed25519_key")).toBe(
      await readFile(stateOf(vm, "ssh_host_ed25519_key"), "utf8"),
    );
    expect(await cat(vm, "/.banger/authorized_keys")).toStartWith("ssh-ed25519 ");
    expect(await cat(vm, "/.config/tool/rc")).toBe("settings");
    expect(await cat(vm, "/.secret")).toBe("token");
    await service.lifecycle.stop(vm.id, run);
    const called = await recordParsers();
    await service.lifecycle.start(vm.id, run);
    expect(await called()).toEqual([]);
  });

  test("made by an older banger and used since: started as it is, with the keys that stand on its disk", async () => {
    const vm = await create();
    await service.lifecycle.stop(vm.id, run);
    await writeFile(workDisk(vm), "what an older banger and its guest wrote");
    world.readsIdentity = false;
    const called = await recordParsers();
    await service.lifecycle.start(vm.id, run);
    expect(await called()).toEqual([]);
    expect(await readFile(workDisk(vm), "utf8")).toBe("what an older banger and its guest wrote");
  });

  test("a first start that could not write the keys is a first start again", async () => {
    world.readsIdentity = false;
    const vm = await create(false);
    const recorders = join(home, "broken");
    await mkdir(recorders);
    await symlink("/bin/false", join(recorders, "debugfs"));
    process.env["PATH"] = `${recorders}:${before.PATH ?? ""}`;
    await expect(service.lifecycle.start(vm.id, run)).rejects.toMatchObject({ code: "FAILED" });
    process.env["PATH"] = before.PATH;
    await service.lifecycle.start(vm.id, run);
    expect(await cat(vm, "/.banger/authorized_keys")).toStartWith("ssh-ed25519 ");
  });
});
