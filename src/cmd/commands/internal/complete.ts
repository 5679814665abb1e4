import { readShell, SHELLS } from "../../line/completion-scripts.ts";
import { complete, joinBashWords, tailForBash, type Candidate, type NameKind } from "../../line/completion.ts";
import { defineCommand, type Invocation } from "../../line/command.ts";
import { printableLine } from "../../terminal/printable.ts";

/** A person waits with the finger on the key. */
const TIMEOUT_MS = 500;

export const command = defineCommand({
  args: { shell: { type: "positional", required: true, description: "The shell." } },
  trailing: { name: "WORDS", description: "The words typed after banger." },
  examples: [],
  run: async ({ args, rest, client, tree, out }) => {
    const shell = readShell(args.shell);
    const typed = rest ?? [];
    const words = shell === "bash" ? joinBashWords(typed) : typed;
    const { candidates, files } = await complete(words, tree, async (kind) => await lookUp(kind, client));
    const partial = words.at(-1) ?? "";
    // The shell shows them on its terminal; a name that couldn't be typed as it is shown is none.
    const lines = candidates
      .filter(({ value }) => printableLine(value) === value)
      .map(({ value, description }) =>
        shell === "bash" ? tailForBash(value, partial) : `${value}\t${printableLine(description)}`,
      );
    out.data([...(files ? [":files"] : []), ...lines].map((line) => `${line}\n`).join(""));
  },
});

/** Names from the daemon if one answers at once; none is started for this, and nothing is said. */
async function lookUp(kind: NameKind, connect: Invocation["client"]): Promise<readonly Candidate[]> {
  if (kind === "code") {
    const { ERROR_TABLE } = await import("../../../shared/errors.ts");
    return Object.entries(ERROR_TABLE).map(([value, { summary }]) => ({ value, description: summary }));
  }
  if (kind === "shell") return SHELLS.map((value) => ({ value, description: "" }));
  try {
    const client = await connect({ start: false, timeoutMs: TIMEOUT_MS });
    switch (kind) {
      case "vm": {
        const vms = await client.call("vm.list", { all: true });
        return vms.map(({ name, state, image }) => ({ value: name, description: `${state}, ${image}` }));
      }
      case "image": {
        const images = await client.call("image.list", {});
        return images.map(({ name, distro, release }) => ({ value: name, description: `${distro} ${release}` }));
      }
      case "kernel": {
        const kernels = await client.call("kernel.list", {});
        return kernels.map(({ name, version }) => ({ value: name, description: version ?? "" }));
      }
    }
  } catch {
    // A completion that can't help stays out of the way: whatever is wrong, the command itself will say.
    return [];
  }
}
