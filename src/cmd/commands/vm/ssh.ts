import { isatty } from "node:tty";
import { NO_STDIN_ARG, VM_ARG, checkVmRef } from "../../line/args.ts";
import { usageError } from "../../line/usage.ts";
import { defineCommand } from "../../line/command.ts";
import { connectGuest } from "../../guest/connect.ts";
import { execInGuest } from "../../guest/exec/exec.ts";
import { openShell } from "../../guest/exec/ssh.ts";
import { simpleCommand } from "../../guest/exec/command.ts";

export const command = defineCommand({
  args: {
    ...VM_ARG,
    tty: { type: "boolean", alias: "t", description: "Gives the command a terminal." },
    ...NO_STDIN_ARG,
  },
  trailing: { name: "CMD...", description: "Runs this instead of a shell and returns its exit status." },
  isGuestStatus: true,
  examples: [
    ["banger ssh box", "opens a shell in box"],
    ["banger ssh box -- journalctl -n 20", "runs one command"],
  ],
  next: "banger ssh-config --install makes plain ssh box.vm work",
  run: async ({ args, rest, client, out, interrupts }) => {
    if (rest?.length === 0) throw usageError("there is no command after --", ["vm", "ssh"]);
    const noStdin = args["no-stdin"] === true;
    if (noStdin && rest === null)
      throw usageError("-n needs a command after --, because a shell reads its input", ["vm", "ssh"]);
    const connection = await connectGuest(await client(), checkVmRef(args.vm));
    if (rest !== null) {
      const { name } = connection;
      const command = { ...simpleCommand(rest, "/root", args.tty === true), noStdin };
      return await execInGuest({ kind: "ssh", name, workDir: "/root", connection }, command, { out, interrupts });
    }
    const isTerminal = isatty(0);
    const status = await openShell(connection, interrupts, isTerminal || args.tty === true);
    if (isTerminal) out.note(`${connection.name} keeps running; banger vm stop ${connection.name} stops it`);
    return status;
  },
});
