/**
 * POSIX access control lists in the form the kernel stores them. Source: acl(5), linux/posix_acl_xattr.h.
 *
 * Written by hand because setfacl(1) takes a path, which may name another file by the time it runs. This works on an
 * open descriptor.
 */

export const ACCESS_ACL = "system.posix_acl_access";
export const DEFAULT_ACL = "system.posix_acl_default";

const VERSION = 2;
const NO_ID = 0xffff_ffff;
const TAG = { owner: 0x01, user: 0x02, group: 0x04, mask: 0x10, other: 0x20 } as const;

export interface Acl {
  /** Permission bits (0 to 7) of the file's owner. */
  readonly owner: number;
  /** Permission bits of additional users, by uid. */
  readonly users: ReadonlyMap<number, number>;
}

/** Encodes the attribute's value. The file's group and everyone else get no access; the mask admits the named users. */
export function encodeAcl({ owner, users }: Acl): Uint8Array {
  const mask = [...users.values()].reduce((all, bits) => all | bits, 0);
  const entries: readonly (readonly [tag: number, bits: number, id: number])[] = [
    [TAG.owner, owner, NO_ID],
    // The kernel rejects a list whose entries of one kind aren't sorted by id.
    ...[...users].sort(([a], [b]) => a - b).map(([uid, bits]) => [TAG.user, bits, uid] as const),
    [TAG.group, 0, NO_ID],
    [TAG.mask, mask, NO_ID],
    [TAG.other, 0, NO_ID],
  ];
  const bytes = new Uint8Array(4 + entries.length * 8);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, VERSION, true);
  for (const [index, [tag, bits, id]] of entries.entries()) {
    view.setUint16(4 + index * 8, tag, true);
    view.setUint16(6 + index * 8, bits, true);
    view.setUint32(8 + index * 8, id, true);
  }
  return bytes;
}
