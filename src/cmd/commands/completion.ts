import { completionScript, readShell, SHELLS } from "../line/completion-scripts.ts";
import { defineCommand } from "../line/command.ts";

export const command = defineCommand({
  args: { shell: { type: "positional", required: true, description: `One of ${SHELLS.join(", ")}.` } },
  examples: [
    [
      "banger completion bash > ~/.local/share/bash-completion/completions/banger",
      "sets up bash, from the next shell on",
    ],
    ["banger completion zsh > ~/.zfunc/_banger", "sets up zsh, with ~/.zfunc in fpath"],
    ["banger completion fish > ~/.config/fish/completions/banger.fish", "sets up fish"],
  ],
  run: async ({ args, out }) => out.data(completionScript(readShell(args.shell))),
});
