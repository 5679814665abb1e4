import { resolveFirecracker } from "../firecracker.ts";
import { rootsDirectory, rootsProgram } from "../gates.ts";
import type { Verb } from "../verb.ts";

export const resolveFirecrackerBinary: Verb<"priv.resolve_firecracker_binary"> = {
  gates: [],
  facts: [rootsProgram, rootsDirectory],
  lock: () => null,
  run: (_, context) => resolveFirecracker(context),
};
