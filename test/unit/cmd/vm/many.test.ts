import { expect, test } from "bun:test";
import { runInProcess } from "../../../support/cli.ts";
import { makeVm } from "../../../support/vm-record.ts";

const done = (ref: string) => ({ ref, vm: makeVm({ name: ref }), error: null });
const failed = (ref: string, code: string) => ({ ref, vm: null, error: { code, message: `${ref} failed` } });

test("names of those done in the order given, errors apart, status 1 when only some failed", async () => {
  const result = await runInProcess(["vm", "stop", "b", "Bad_Ref", "a"], {
    "vm.stop": [failed("b", "WRONG_STATE"), done("a")],
  });
  expect(result).toMatchObject({
    status: 1,
    stdout: "a\n",
    calls: [["vm.stop", { vms: ["b", "a"] }]],
  });
  expect(result.stderr).toStartWith("error: b: b failed [WRONG_STATE]\n");
  expect(result.stderr).toContain("error: Bad_Ref: ");
});

test.each([
  [["a"], [failed("a", "VM_NOT_FOUND")], 20],
  [["a", "b"], [failed("a", "VM_NOT_FOUND"), failed("b", "VM_NOT_FOUND")], 20],
  [["a", "b"], [failed("a", "VM_NOT_FOUND"), failed("b", "WRONG_STATE")], 1],
  [["a", "a"], [done("a")], 0],
])("%p", async (refs, answer, status) => {
  expect((await runInProcess(["vm", "delete", ...refs], { "vm.delete": answer })).status).toBe(status);
});

test("as JSON: every result, or the error of the only one", async () => {
  const both = await runInProcess(["vm", "start", "a", "b", "--json"], {
    "vm.start": [done("a"), failed("b", "WRONG_STATE")],
  });
  expect(JSON.parse(both.stdout)).toMatchObject([
    { ref: "a", error: null },
    { ref: "b", vm: null, error: { code: "WRONG_STATE" } },
  ]);
  expect(both.status).toBe(1);
  const one = await runInProcess(["vm", "start", "b", "--json"], { "vm.start": [failed("b", "WRONG_STATE")] });
  expect(JSON.parse(one.stdout)).toMatchObject({ error: { code: "WRONG_STATE" } });
  expect(one.status).toBe(22);
});

test("prune leaves running VMs and those under way alone, and asks nobody where nobody is", async () => {
  const vms = (["running", "starting", "stopping", "stopped", "error", "created"] as const).map((state, i) =>
    makeVm({ id: `00000000000${i}`, name: state, state }),
  );
  const answers = { "vm.list": vms, "vm.delete": [] };
  const forced = await runInProcess(["vm", "prune", "-f"], answers);
  expect(forced.calls.at(-1)).toEqual(["vm.delete", { vms: ["000000000003", "000000000004", "000000000005"] }]);
  const asked = await runInProcess(["vm", "prune"], answers);
  expect(asked.status).toBe(2);
  expect(asked.calls.map(([method]) => method)).toEqual(["vm.list"]);
});
