/** One method for several VMs. */

import type { VmId, VmRecord } from "../../shared/contract/schemas.ts";
import { type ErrorDocument, toBangerError } from "../../shared/errors.ts";
import type { VmService } from "../vm/service.ts";

export interface ManyItem {
  readonly ref: string;
  readonly vm: VmRecord | null;
  readonly error: ErrorDocument | null;
}

/** Does the same to several: one listing, duplicates once, concurrently, results in the order asked. */
export async function forEachVm(
  { parts, queries }: Pick<VmService, "parts" | "queries">,
  refs: readonly string[],
  work: (id: VmId) => Promise<VmRecord>,
): Promise<ManyItem[]> {
  const all = parts.vms.list();
  const byId = new Map<string, Promise<VmRecord>>();
  const started = refs.map((ref): readonly [string, Promise<VmRecord> | null] => {
    try {
      const vm = queries.resolve(ref, all);
      if (byId.has(vm.id)) return [ref, null];
      const result = work(vm.id);
      result.catch(() => undefined);
      byId.set(vm.id, result);
      return [ref, result];
    } catch (thrown) {
      const failed = Promise.reject<VmRecord>(thrown);
      failed.catch(() => undefined);
      return [ref, failed];
    }
  });
  const items: ManyItem[] = [];
  for (const [ref, result] of started) {
    if (result === null) continue;
    try {
      items.push({ ref, vm: await result, error: null });
    } catch (thrown) {
      items.push({ ref, vm: null, error: toBangerError(thrown).toDocument() });
    }
  }
  return items;
}
