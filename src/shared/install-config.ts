/**
 * `/etc/banger/install.toml`: the decisions of `system install`. Root owns it; the helper trusts it and the daemon
 * reads it. Schema, parser and printer; whoever reads the file checks its owner and mode first.
 */

import * as v from "valibot";
import { BangerError } from "./errors.ts";

const Whole = v.pipe(v.number(), v.safeInteger());
/** Below 2^31, because some tools store ids signed. Root can be neither a VM's user nor the owner. */
const UserId = v.pipe(Whole, v.minValue(1), v.maxValue(0x7fff_fffe));

/** A version also names a directory, so only digits, dots and a pre-release word are allowed. */
const FirecrackerVersion = v.pipe(v.string(), v.regex(/^\d{1,4}\.\d{1,4}\.\d{1,4}(?:-[a-z0-9]{1,16})?$/));
const AbsoluteDirectory = v.pipe(
  v.string(),
  v.maxLength(255),
  v.regex(/^(?:\/[A-Za-z0-9_+-][A-Za-z0-9._+-]*)+$/, "an absolute path without `.`, `..` or spaces"),
);

export const InstallConfig = v.pipe(
  v.strictObject({
    owner: v.strictObject({
      uid: UserId,
      gid: UserId,
      /** For people; the helper uses the uid, never the name. */
      name: v.pipe(v.string(), v.regex(/^[a-z_][a-z0-9_-]{0,31}$/)),
    }),
    /** User and group ids reserved for VMs, one pair per VM with the same number: `first` to `first + count - 1`. */
    vm_ids: v.strictObject({
      first: v.pipe(UserId, v.minValue(1000)),
      count: v.pipe(Whole, v.minValue(1), v.maxValue(65536)),
    }),
    /** Missing until a Firecracker is installed. Without it no VM can be launched. */
    firecracker: v.optional(
      v.strictObject({
        version: FirecrackerVersion,
        /** Holds `firecracker` and `jailer`. */
        directory: AbsoluteDirectory,
      }),
    ),
  }),
  v.check(({ vm_ids }) => vm_ids.first + vm_ids.count <= 0x7fff_ffff, "vm_ids reach past the largest user id"),
  v.check(
    ({ owner, vm_ids }) => [owner.uid, owner.gid].every((id) => id < vm_ids.first || id >= vm_ids.first + vm_ids.count),
    "the owner is inside vm_ids: a VM would be the owner",
  ),
);
export type InstallConfig = v.InferOutput<typeof InstallConfig>;

/** @throws BangerError CONFIG_INVALID, naming the key. */
export function parseInstallConfig(text: string): InstallConfig {
  let document: unknown;
  try {
    document = Bun.TOML.parse(text);
  } catch (cause) {
    throw new BangerError("CONFIG_INVALID", "install.toml is not TOML", { cause });
  }
  const parsed = v.safeParse(InstallConfig, document);
  if (parsed.success) return parsed.output;
  const [issue] = parsed.issues;
  const where = v.getDotPath(issue);
  throw new BangerError("CONFIG_INVALID", `install.toml: ${where === null ? "" : `${where}: `}${issue.message}`);
}

/** Formats the file. No value needs escaping in TOML. */
export function formatInstallConfig({ owner, vm_ids, firecracker }: InstallConfig): string {
  return [
    "# Written by banger system install. The root helper trusts this file.",
    "",
    "[owner]",
    `uid = ${owner.uid}`,
    `gid = ${owner.gid}`,
    `name = "${owner.name}"`,
    "",
    "# User and group ids of VMs, one per VM.",
    "[vm_ids]",
    `first = ${vm_ids.first}`,
    `count = ${vm_ids.count}`,
    ...(firecracker === undefined
      ? []
      : ["", "[firecracker]", `version = "${firecracker.version}"`, `directory = "${firecracker.directory}"`]),
    "",
  ].join("\n");
}
