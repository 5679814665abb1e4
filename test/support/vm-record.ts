/** A VM's record for tests that only care about some of its fields. */

import * as v from "valibot";
import { VmId, type VmRecord } from "../../src/shared/contract/schemas.ts";

export function makeVm(more: Partial<Omit<VmRecord, "id">> & { readonly id?: string } = {}): VmRecord {
  const { id = "0123456789ab", ...fields } = more;
  return {
    id: v.parse(VmId, id),
    name: "box",
    state: "stopped",
    reason: null,
    image: "debian-trixie",
    kernel: "debian-trixie-6.12",
    spec: { vcpu: 2, memoryMiB: 1024, diskBytes: 8 * 1024 ** 3, systemOverlayBytes: 8 * 1024 ** 3, nat: false },
    engine: "qemu",
    acceleration: null,
    pid: null,
    bootId: null,
    agent: null,
    address: null,
    workspace: null,
    createdAt: "2026-01-02T03:04:05.678Z",
    startedAt: null,
    touchedAt: "2026-01-02T03:04:05.678Z",
    ...fields,
  };
}
