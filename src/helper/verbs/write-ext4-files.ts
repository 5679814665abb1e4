import { writeGuestFiles } from "../ext4.ts";
import { guestFiles } from "../gates.ts";
import { type Verb, vmLock } from "../verb.ts";

export const writeExt4Files: Verb<"priv.write_ext4_files"> = {
  gates: [guestFiles],
  facts: [],
  byDesign: {
    rule: "the disk is that VM's snapshot, made from its id; number and size bounded; debugfs runs as the VM's uid with a node of that one disk",
    stops: "editing host filesystems; a crafted file system taking root over through debugfs",
  },
  lock: vmLock,
  run: async ({ vm, files }, context) => {
    await writeGuestFiles(
      context,
      vm,
      files.map(({ path, mode, contents }) => ({ path, mode, contents: Buffer.from(contents, "base64") })),
    );
    return {};
  },
};
