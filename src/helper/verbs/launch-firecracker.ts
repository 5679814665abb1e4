import {
  jailSocket,
  jailsMount,
  kernelsFileSystem,
  optionalTapName,
  ownersFile,
  ownersOnlyFile,
  programIsStatic,
  realTap,
  rootsDirectory,
  rootsProgram,
} from "../gates.ts";
import { launch } from "../jail/launch.ts";
import { type Verb, vmLock } from "../verb.ts";

export const launchFirecracker: Verb<"priv.launch_firecracker"> = {
  gates: [optionalTapName],
  facts: [
    ...[rootsProgram, rootsDirectory, programIsStatic, jailsMount],
    ...[ownersFile, ownersOnlyFile, kernelsFileSystem, realTap, jailSocket],
  ],
  byDesign: {
    rule: "uid and gid are the VM's own and no process has them; the program comes from install.toml, files are found by id; takes no command, environment or mount; boot settings go through the jailed API; the VMM's root is in memory, in its own mount namespace only",
    stops:
      "hard-linking host files into a jail, or nodes and kernels out of it; running other programs, becoming another user",
  },
  lock: vmLock,
  run: async (input, context) => await launch(context, input),
};
