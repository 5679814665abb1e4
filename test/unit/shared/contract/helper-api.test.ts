import { describe, expect, test } from "bun:test";
import * as v from "valibot";
import {
  HELPER_VERBS,
  HELPER_VERSION,
  HelperRequest,
  type HelperVerbName,
} from "../../../../src/shared/contract/helper-api.ts";
import { GOOD_INPUTS, VM as vm } from "../../../support/helper-inputs.ts";

const accepts = (name: HelperVerbName, input: unknown): boolean =>
  v.safeParse(HELPER_VERBS[name].input as v.GenericSchema, input).success;

describe.each(Object.entries(GOOD_INPUTS))("%s", (key, good) => {
  const name = key as HelperVerbName;
  test("takes a good input, and none with a key too many or too few", () => {
    expect(accepts(name, good)).toBe(true);
    expect(accepts(name, { ...good, uid: 0 })).toBe(false);
    expect(accepts(name, { ...good, env: { PATH: "/tmp" } })).toBe(false);
    for (const missing of Object.keys(good)) {
      const { [missing]: _, ...rest } = good;
      expect(accepts(name, rest)).toBe(false);
    }
  });

  test("takes no value of another type in any field", () => {
    for (const field of Object.keys(good)) {
      for (const wrong of [[], {}, -1, 1.5, Number.NaN, "", "\0", undefined, "x".repeat(5000)]) {
        expect(accepts(name, { ...good, [field]: wrong })).toBe(false);
      }
    }
    for (const wrong of [null, "x", 1, [good]]) expect(accepts(name, wrong)).toBe(false);
  });
});

describe("the schemas of ids", () => {
  test.each(["../../etc", "0123456789AB", "0123456789abc", "0123456789a/", "0123456789ab\n"])(
    "no VM is named %j",
    (id) => expect(accepts("priv.kill_process", { vm: id })).toBe(false),
  );
  test.each(["..", ".", "a/b", "/etc", "-x", "a\0", "A", "x\n"])("no image is named %j", (image) =>
    expect(accepts("priv.create_dm_snapshot", { vm, image, root_bytes: 1024 ** 3 })).toBe(false),
  );
});

describe("the envelope", () => {
  const good = { v: HELPER_VERSION, method: "priv.ping", params: {}, op: null };
  test.each([
    ["another version", { ...good, v: HELPER_VERSION + 1 }],
    ["no version", { method: "priv.ping", params: {}, op: null }],
    ["an unknown key", { ...good, uid: 0 }],
    ["an operation that is none", { ...good, op: "op-\nforged log line" }],
    ["an array", [good]],
    ["parameters that are an array", { ...good, params: [] }],
    ["parameters that are none", { ...good, params: null }],
  ])("refuses %s", (_, bad) => {
    expect(v.safeParse(HelperRequest, good).success).toBe(true);
    expect(v.safeParse(HelperRequest, bad).success).toBe(false);
  });
});
