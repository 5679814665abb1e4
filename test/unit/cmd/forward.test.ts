import { expect, test } from "bun:test";
import { BangerError } from "../../../src/shared/errors.ts";
import { runInProcess } from "../../support/cli.ts";
import { makeVm } from "../../support/vm-record.ts";

/** The first forward is made, the second one fails. */
function failingSecond(unforward: unknown): Record<string, unknown> {
  let asked = 0;
  return {
    "vm.show": makeVm({ state: "running" }),
    "vm.forward": () => {
      if (asked++ > 0) throw new BangerError("IN_USE", "81 is taken");
      return { vm: "box", hostAddress: "127.0.0.1", hostPort: 80, guestPort: 80 };
    },
    "vm.unforward": unforward,
  };
}

test.each([
  ["there", {}],
  ["gone meanwhile", new BangerError("FORWARD_NOT_FOUND", "not forwarded")],
])("a forward that fails takes the others away, also one that is %s, and says why it failed", async (_, unforward) => {
  const result = await runInProcess(["vm", "forward", "box", "80", "81"], failingSecond(unforward));
  expect(result.stderr).toContain("81 is taken [IN_USE]");
  expect(result.status).toBe(24);
  expect(result.calls.at(-1)).toEqual(["vm.unforward", { vm: makeVm({}).id, hostPort: 80 }]);
});

test("--stop says what isn't there", async () => {
  const result = await runInProcess(["vm", "forward", "--stop", "box", "80"], {
    "vm.show": makeVm({ state: "running" }),
    "vm.unforward": new BangerError("FORWARD_NOT_FOUND", "port 80 of this host is not forwarded to box"),
  });
  expect(result.stderr).toContain("[FORWARD_NOT_FOUND]");
  expect(result.status).toBe(20);
});
