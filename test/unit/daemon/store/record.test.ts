import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import * as v from "valibot";
import { openDatabase } from "../../../../src/daemon/store/database.ts";
import { formatRecord, readRecord } from "../../../../src/daemon/store/record.ts";
import { VmTable } from "../../../../src/daemon/store/vms.ts";
import { VmRecord } from "../../../../src/shared/contract/schemas.ts";
import { makeVm } from "../../../support/vm-record.ts";

const vm = makeVm();
const read = (record: string) => readRecord({ id: vm.id, name: "box", record });

describe("what breaks the schema is not written", () => {
  const table = new VmTable(openDatabase(":memory:"));
  table.insert(vm);
  test.each([
    ["a disk below the limit", { spec: { ...vm.spec, diskBytes: 1024 ** 2 } }, "spec.diskBytes: must be from 64 MiB"],
    ["memory above the limit", { spec: { ...vm.spec, memoryMiB: 2 ** 30 } }, "spec.memoryMiB: must be from 128 MiB"],
    ["half a vCPU", { spec: { ...vm.spec, vcpu: 0.5 } }, "spec.vcpu"],
    ["an address that is none", { guestIp: "172.16.0.999" }, "guestIp"],
  ] as const)("%s", (_, more, message) => {
    expect(() => table.update({ ...vm, ...more })).toThrow(message);
    expect(() => table.insert({ ...makeVm({ id: "ffffffffffff", name: "other" }), ...more })).toThrow(message);
    expect(table.list()).toEqual([vm]);
  });
});

describe("a damaged record is shown in state error, with what is wrong and the way out", () => {
  test.each([
    ["a disk of 1M", JSON.stringify({ ...vm, spec: { ...vm.spec, diskBytes: 1024 ** 2 } }), "spec.diskBytes"],
    ["a field of a later version", JSON.stringify({ ...vm, colour: "red" }), "colour"],
    ["no JSON", "{", "Object"],
    ["no object", "[]", "id"],
    ["another VM's id", JSON.stringify({ ...vm, id: "ffffffffffff" }), "it says box (ffffffffffff)"],
    ["a state that is none", JSON.stringify({ ...vm, state: "asleep" }), "state"],
  ])("%s", (_, text, flaw) => {
    const { record, flaw: said } = read(text);
    expect(said).toContain(flaw);
    expect(record).toMatchObject({ id: vm.id, name: "box", state: "error" });
    expect(record.reason).toContain('"banger vm delete box" removes the VM');
    expect(v.is(VmRecord, record)).toBe(true);
  });

  test("what is sound of it is kept: its address stays taken", () => {
    const text = JSON.stringify({ ...vm, guestIp: "172.16.0.9", spec: { ...vm.spec, vcpu: 7, diskBytes: 1 } });
    expect(read(text).record).toMatchObject({ guestIp: "172.16.0.9", image: vm.image, spec: { vcpu: 7 } });
  });

  test("whatever stands there, something valid is shown", () => {
    const sound = JSON.parse(formatRecord(vm)) as Record<string, unknown>;
    const broken = fc.record({ key: fc.constantFrom(...Object.keys(sound)), value: fc.jsonValue() });
    fc.assert(
      fc.property(fc.oneof(fc.string(), fc.json(), broken), (given) => {
        const text = typeof given === "string" ? given : JSON.stringify({ ...sound, [given.key]: given.value });
        const { record } = read(text);
        return v.is(VmRecord, record) && record.id === vm.id;
      }),
    );
  });
});
