/** What `vm run` and `vm create` share: arguments, their checks, and a create that shows what it does. */

import type { ArgsDef } from "citty";
import { formatDuration } from "../../shared/text/durations.ts";
import type { InputOf } from "../../shared/contract/owner-api.ts";
import { BangerError } from "../../shared/errors.ts";
import type { ResolvedSpec, VmRecord } from "../../shared/contract/schemas.ts";
import { formatBytes } from "../../shared/text/sizes.ts";
import { checkImageName, checkVmName, readSpec, SPEC_ARGS, type SpecValues } from "../line/args.ts";
import type { Invocation } from "../line/command.ts";

export const CREATE_ARGS = {
  name: { type: "string", description: "The VM's name; default: two random words." },
  image: { type: "string", description: "The image; built first if it is missing." },
  kernel: { type: "string", valueHint: "name", description: "The kernel; default: the image's own." },
  ...SPEC_ARGS,
} as const satisfies ArgsDef;

export interface CreateValues extends SpecValues {
  readonly name?: string | undefined;
  readonly image?: string | undefined;
  readonly kernel?: string | undefined;
}

/** The request, with every value checked. @throws BangerError INVALID_NAME, INVALID_VALUE naming the flag */
export function readCreate(args: CreateValues, start: boolean): InputOf<"vm.create"> {
  return {
    ...(args.name === undefined ? {} : { name: checkVmName("--name", args.name) }),
    ...(args.image === undefined ? {} : { image: checkImageName("--image", args.image) }),
    ...(args.kernel === undefined ? {} : { kernel: checkImageName("--kernel", args.kernel) }),
    spec: readSpec(args),
    start,
  };
}

/** One line for a person about what will be made. */
function describeSpec({ image, imagePresent, spec, acceleration, accelerationReason }: ResolvedSpec): string {
  return [
    `${image}${imagePresent ? "" : " (built first)"}`,
    `${spec.vcpu} vCPU`,
    `${formatBytes(spec.memoryMiB * 1024 ** 2)} memory`,
    `${formatBytes(spec.diskBytes)} at /root`,
    spec.nat ? "network through the host" : "no network",
    acceleration === "kvm" ? "KVM" : `emulated: ${accelerationReason}`,
  ].join(", ");
}

/**
 * Shows the spec, then the stages, then how long it took.
 * @throws BangerError CANCELLED after an interrupt, when nothing of the VM is left
 */
export async function createVm(
  { client, out, interrupts }: Pick<Invocation, "client" | "out" | "interrupts">,
  request: InputOf<"vm.create">,
): Promise<VmRecord> {
  const began = performance.now();
  const daemon = await client();
  let isShown = false;
  const vm = await daemon.call("vm.create", request, {
    spec: (resolved) => {
      // An image that had to be built by this process makes the daemon say it twice.
      if (!isShown) out.note(describeSpec(resolved));
      isShown = true;
    },
  });
  if (interrupts.signal.aborted) {
    // The VM was ready before the daemon heard of the interrupt.
    await (await client({ ignoreInterrupts: true })).call("vm.delete", { vms: [vm.id] });
    throw new BangerError("CANCELLED", "interrupted; the VM was deleted");
  }
  const took = formatDuration(performance.now() - began);
  out.note(request.start ? `${vm.name}: ready in ${took}` : `${vm.name}: created in ${took}`);
  return vm;
}
