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
    rule: "uid and gid are the VM's own slot, which no process has; program and chroot base install.toml's, files found by id; no command, environment or mount is taken, and what the guest boots is settled over the jailed API; the VMM's root is in memory and in its own mount namespace alone",
    stops:
      "hard-linking host files into a jail, or nodes and kernels out of it; running other programs, becoming another user",
  },
  lock: vmLock,
  run: async (input, context) => await launch(context, input),
};
