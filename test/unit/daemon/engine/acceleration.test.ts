import { describe, expect, test } from "bun:test";
import { decideAcceleration } from "../../../../src/daemon/engine/acceleration.ts";

describe("decideAcceleration", () => {
  test.each(["kvm_intel", "kvm_amd"])("%s and a device that opens is KVM", (module) => {
    expect(decideAcceleration({ device: "usable", modules: ["kvm", module] })).toMatchObject({
      kind: "kvm",
      fix: null,
    });
  });

  test("a paravirtual one that opens is not, and is named", () => {
    const decided = decideAcceleration({ device: "usable", modules: ["kvm", "kvm_pvm"] });
    expect(decided.kind).toBe("tcg");
    expect(decided.reason).toContain("kvm_pvm");
  });

  test("a device of unknown make is not", () => {
    expect(decideAcceleration({ device: "usable", modules: ["kvm"] }).kind).toBe("tcg");
    expect(decideAcceleration({ device: "usable", modules: [] }).kind).toBe("tcg");
  });

  test.each(["missing", "forbidden", "broken"] as const)("a %s device is emulation with a way out", (device) => {
    const decided = decideAcceleration({ device, modules: ["kvm", "kvm_intel"] });
    expect(decided.kind).toBe("tcg");
    expect(decided.fix).not.toBeNull();
  });

  test("who may not open it is told of the group and of the new login", () => {
    expect(decideAcceleration({ device: "forbidden", modules: [] }).fix).toMatch(/kvm.*log in again/);
  });
});
