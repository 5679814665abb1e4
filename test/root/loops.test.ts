import { describe, expect, test } from "bun:test";
import { constants, ftruncateSync, readFileSync, renameSync, rmSync, symlinkSync } from "node:fs";
import { join } from "node:path";
import { openOwnersFile, reopen } from "../../src/helper/files/owner-files.ts";
import { openRoot, openDevice } from "../../src/helper/sys/descriptors.ts";
import { attachLoop, detachLoop, listLoops, readLoop } from "../../src/helper/sys/loops.ts";
import { makeHost, type TestHost } from "./support.ts";

const MIB = 1024 * 1024;
const MARK = "banger-test";

function makeImage(host: TestHost): string {
  const path = host.ownersFile("images/x/rootfs.ext4", "an image");
  using file = openRoot(join(path, "..")).open("rootfs.ext4", constants.O_RDWR);
  ftruncateSync(file.fd, MIB);
  return path;
}

describe("loop devices", () => {
  test("hold the checked file, even if its name now belongs to another, and end with their last user", () => {
    using host = makeHost();
    const path = makeImage(host);
    using checked = openOwnersFile(host.context, "images/x/rootfs.ext4", "IMAGE_NOT_FOUND", { onlyName: true });
    renameSync(path, `${path}.moved`);
    symlinkSync(join(host.treasure, "rootfs.ext4"), path);
    let device: string;
    {
      using readable = reopen(checked, constants.O_RDONLY);
      using loop = attachLoop(readable, true, MARK);
      device = loop.label;
      expect(readLoop(loop)).toEqual({ identity: checked.stat().identity, readOnly: true, mark: MARK });
      expect(readFileSync(device).subarray(0, 8).toString()).toBe("an image");
      expect(readFileSync(`/sys/block/${device.slice(5)}/ro`, "utf8").trim()).toBe("1");
    }
    // Nobody has it open: the kernel has released the file by itself.
    using again = openDevice(device, true);
    expect(readLoop(again)).toBeNull();
    rmSync(`${path}.moved`);
  });

  test("requested at once are one for each request", () => {
    using host = makeHost();
    makeImage(host);
    using file = openOwnersFile(host.context, "images/x/rootfs.ext4", "IMAGE_NOT_FOUND", { onlyName: true });
    using readable = reopen(file, constants.O_RDONLY);
    const loops = Array.from({ length: 6 }, () => attachLoop(readable, true, MARK));
    expect(new Set(loops.map(({ label }) => label)).size).toBe(6);
    for (const loop of loops) loop[Symbol.dispose]();
    expect(listLoops().filter(({ facts }) => facts.mark === MARK)).toEqual([]);
  });

  test("can be detached twice", () => {
    using host = makeHost();
    makeImage(host);
    using file = openOwnersFile(host.context, "images/x/rootfs.ext4", "IMAGE_NOT_FOUND", { onlyName: true });
    using readable = reopen(file, constants.O_RDWR);
    using loop = attachLoop(readable, false, MARK);
    expect(readLoop(loop)?.readOnly).toBe(false);
    detachLoop(loop);
    detachLoop(loop);
  });
});
