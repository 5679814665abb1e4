import { expect, test } from "bun:test";
import { withoutVm } from "../../../../src/daemon/vm/lifecycle.ts";
import { BangerError } from "../../../../src/shared/errors.ts";
import { makeVm } from "../../../support/vm-record.ts";

const vm = makeVm({});

test.each([
  [`banger vm logs ${vm.name}`, "banger daemon logs -n 20"],
  [`banger vm logs ${vm.id}`, "banger daemon logs -n 20"],
  [`banger vm show ${vm.name} --json`, "banger daemon logs -n 20"],
  ["banger image build debian-trixie", "banger image build debian-trixie"],
  ["banger doctor", "banger doctor"],
])("of an undone VM, %p becomes %p", (hint, expected) => {
  const error = new BangerError("VMM_FAILED", "it ended", { hint, details: { console: ["x"] }, op: "op-1" });
  expect(withoutVm(error, vm).toDocument()).toEqual({ ...error.toDocument(), hint: expected });
});

test("no hint stays none", () => {
  expect(withoutVm(new BangerError("FAILED", "x"), vm).hint).toBeUndefined();
});
