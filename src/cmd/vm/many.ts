/** The same change on several VMs: one request, results in the order given, the good ones done though others failed. */

import type { InputOf, OutputOf } from "../../shared/contract/owner-api.ts";
import { BangerError, type ErrorCode, exitStatusOf } from "../../shared/errors.ts";
import { checkVmRef } from "../line/args.ts";
import { errorOf } from "../daemon/client.ts";
import type { Invocation } from "../line/command.ts";

type Change = "vm.start" | "vm.stop" | "vm.restart" | "vm.kill" | "vm.delete";
type Item = OutputOf<Change>[number];

/**
 * Does it, prints the name of each VM done, and returns the exit status.
 * @throws BangerError when only one VM was named and it failed
 */
export async function changeMany(
  { out, json, client }: Pick<Invocation, "out" | "json" | "client">,
  method: Change,
  refs: readonly string[],
  more: Omit<InputOf<"vm.kill">, "vms"> = {},
): Promise<number> {
  const refused = new Map<string, BangerError>();
  for (const ref of refs) {
    try {
      checkVmRef(ref);
    } catch (thrown) {
      if (!(thrown instanceof BangerError)) throw thrown;
      refused.set(ref, thrown);
    }
  }
  const vms = refs.filter((ref) => !refused.has(ref));
  const answered = vms.length === 0 ? [] : await (await client()).call(method, { ...more, vms });
  const items: Item[] = [...new Set(refs)].flatMap((ref) => {
    const error = refused.get(ref);
    if (error !== undefined) return [{ ref, vm: null, error: error.toDocument() }];
    return answered.filter((item) => item.ref === ref);
  });
  const codes = new Set<ErrorCode>(items.flatMap(({ error }) => (error === null ? [] : [error.code])));
  const [only] = items;
  if (items.length === 1 && only !== undefined && only.error !== null) throw errorOf(only.error);
  if (json) {
    out.json(items);
  } else {
    for (const { ref, vm, error } of items) {
      if (error !== null) out.error(errorOf(error), false, `${ref}: `);
      else if (vm !== null) out.line(vm.name);
    }
  }
  const [code] = codes;
  if (code === undefined) return 0;
  return exitStatusOf(codes.size === 1 && items.every(({ error }) => error !== null) ? code : "SOME_FAILED");
}
