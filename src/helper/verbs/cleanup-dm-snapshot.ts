import { cowPath, detachStrayLoops, removeDevices } from "../dm.ts";
import { enforce, loopIsOurs, vmHandles } from "../gates.ts";
import { listLoops } from "../sys/loops.ts";
import { type Verb, vmLock } from "../verb.ts";

export const cleanupDmSnapshot: Verb<"priv.cleanup_dm_snapshot"> = {
  gates: [vmHandles],
  facts: [loopIsOurs],
  lock: vmLock,
  run: async ({ vm, handles }, context) => {
    const loops = listLoops();
    const backingOf = (loop: string): string | null => loops.find(({ device }) => device === loop)?.backingFile ?? null;
    if (handles.cow_loop !== null) {
      const expected = cowPath(context, vm);
      enforce(loopIsOurs, { loop: handles.cow_loop, backingFile: backingOf(handles.cow_loop), expected });
    }
    if (handles.base_loop !== null) {
      // An image's loop ends with its last user; it is looked at, never detached.
      const backingFile = backingOf(handles.base_loop);
      const expected = backingFile?.startsWith(`${context.paths.imagesDir}/`) === true ? backingFile : "an image";
      enforce(loopIsOurs, { loop: handles.base_loop, backingFile, expected });
    }
    await removeDevices(vm);
    detachStrayLoops(context, vm);
    return {};
  },
};
