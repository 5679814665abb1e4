import { completionScript, readShell, SHELLS } from "../line/completion-scripts.ts";
import { defineCommand } from "../line/command.ts";

export const command = defineCommand({
  args: { shell: { type: "positional", required: true, description: `One of ${SHELLS.join(", ")}.` } },
  examples: [
    ["banger completion bash > ~/.local/share/bash-completion/completions/banger", "for bash, from the next shell on"],
    ["banger completion zsh > ~/.zfunc/_banger", "for zsh, with ~/.zfunc in fpath"],
    ["banger completion fish > ~/.config/fish/completions/banger.fish", "for fish"],
  ],
  run: async ({ args, out }) => out.data(completionScript(readShell(args.shell))),
});
