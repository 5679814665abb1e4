import { resolveFirecracker } from "../jail/firecracker.ts";
import { programIsStatic, rootsDirectory, rootsProgram } from "../gates.ts";
import type { Verb } from "../verb.ts";

export const resolveFirecrackerBinary: Verb<"priv.resolve_firecracker_binary"> = {
  gates: [],
  facts: [rootsProgram, rootsDirectory, programIsStatic],
  lock: () => null,
  run: (_, context) => {
    const { version, firecracker, jailer } = resolveFirecracker(context);
    return { version, firecracker, jailer };
  },
};
