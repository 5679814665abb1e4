import { expect, test } from "bun:test";
import { loadConfig } from "../../../../src/shared/config.ts";
import { resolveSpec, whyUnfit } from "../../../../src/daemon/vm/plan.ts";

const GIB = 1024 ** 3;
const config = (text: string | null): ReturnType<typeof loadConfig>["values"] => loadConfig(["/f"], () => text).values;

test.each([
  [{ cpus: 1, memoryMiB: 2048 }, 2, 1024],
  [{ cpus: 12, memoryMiB: 32 * 1024 }, 3, 4096],
  [{ cpus: 128, memoryMiB: 1024 * 1024 }, 4, 8192],
])("on %p: %d vCPU, %d MiB", (host, vcpu, memoryMiB) => {
  expect(resolveSpec({}, config(null), host)).toEqual({
    vcpu,
    memoryMiB,
    diskBytes: 8 * GIB,
    systemOverlayBytes: 8 * GIB,
    nat: false,
  });
});

test("flag before configuration before host", () => {
  const host = { cpus: 8, memoryMiB: 16 * 1024 };
  const file = config('[vm_defaults]\nvcpu = 6\nmemory_mib = 700\nnat = true\ndisk_size = "9G"\n');
  expect(resolveSpec({ vcpu: 1, nat: false }, file, host)).toMatchObject({
    vcpu: 1,
    memoryMiB: 700,
    nat: false,
    diskBytes: 9 * GIB,
  });
});

test.each([
  [{ memoryMiB: 1024 * 1024 }, "qemu", "box can't have 1048576 MiB of memory: this host has 4096 MiB"],
  [{ memoryMiB: 4097 }, "firecracker", "box can't have 4097 MiB of memory: this host has 4096 MiB"],
  [{ memoryMiB: 4096 }, "qemu", null],
  [{ vcpu: 33 }, "firecracker", "box can't have 33 vCPUs: firecracker takes at most 32"],
  [{ vcpu: 64 }, "qemu", null],
] as const)("%p on %s", (asked, engine, why) => {
  const spec = { ...resolveSpec({}, config(null), { cpus: 4, memoryMiB: 4096 }), ...asked };
  expect(whyUnfit({ name: "box", engine, spec }, { memoryMiB: 4096 })).toBe(why);
});

test("the memory that a VM gets at least is fit for the smallest host", () => {
  const spec = resolveSpec({}, config(null), { cpus: 1, memoryMiB: 512 });
  expect(whyUnfit({ name: "box", engine: "qemu", spec }, { memoryMiB: 512 })).toBeNull();
});
