import { readGuestFile } from "../ext4.ts";
import { guestPath } from "../gates.ts";
import { type Verb, vmLock } from "../verb.ts";

export const readExt4File: Verb<"priv.read_ext4_file"> = {
  gates: [guestPath],
  facts: [],
  byDesign: {
    rule: "the disk is that VM's snapshot, made from its id; at most 32 KiB; debugfs runs as the VM's uid with a node of that one disk",
    stops: "reading host filesystems; a crafted file system taking root over through debugfs",
  },
  lock: vmLock,
  run: async ({ vm, path }, context) => {
    const contents = await readGuestFile(context, vm, path);
    return { contents: contents === null ? null : Buffer.from(contents).toString("base64") };
  },
};
