import {
  jailSocket,
  optionalTapName,
  ownersFile,
  ownersOnlyFile,
  realTap,
  rootsDirectory,
  rootsProgram,
} from "../gates.ts";
import { launch } from "../launch.ts";
import { type Verb, vmLock } from "../verb.ts";

export const launchFirecracker: Verb<"priv.launch_firecracker"> = {
  gates: [optionalTapName],
  facts: [rootsProgram, rootsDirectory, ownersFile, ownersOnlyFile, realTap, jailSocket],
  byDesign: {
    rule: "uid and gid are the VM's own slot, program and chroot base install.toml's, files found by id; no command, environment or mount is taken, and what the guest boots is settled over the jailed API",
    stops: "hard-linking host files into a jail, running other programs, becoming another user",
  },
  lock: vmLock,
  run: async (input, context) => await launch(context, input),
};
