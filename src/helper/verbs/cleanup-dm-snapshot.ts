import { BASE_MARK, cowMark, detachStrayLoops, removeDevices } from "../dm.ts";
import { dmIsOurs, enforce, loopIsOurs, vmHandles } from "../gates.ts";
import { listLoops } from "../sys/loops.ts";
import { type Verb, vmLock } from "../verb.ts";

export const cleanupDmSnapshot: Verb<"priv.cleanup_dm_snapshot"> = {
  gates: [vmHandles],
  facts: [loopIsOurs, dmIsOurs],
  lock: vmLock,
  run: async ({ vm, handles }, context) => {
    const loops = listLoops();
    // An image's loop ends with its last user; it is looked at, never detached.
    for (const [loop, expected] of [
      [handles.cow_loop, cowMark(vm)],
      [handles.base_loop, BASE_MARK],
    ] as const) {
      if (loop === null) continue;
      const mark = loops.find(({ device }) => device === loop)?.facts.mark ?? null;
      enforce(loopIsOurs, { loop, mark, expected });
    }
    await removeDevices(context, vm);
    detachStrayLoops(vm);
    return {};
  },
};
