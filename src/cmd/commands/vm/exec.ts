import { NO_STDIN_ARG, VM_ARG, checkVmRef, readDuration } from "../../line/args.ts";
import { usageError } from "../../line/usage.ts";
import { defineCommand } from "../../line/command.ts";
import { connectGuest } from "../../guest/connect.ts";
import { execInGuest } from "../../guest/exec.ts";

const PATH = ["vm", "exec"];

function readEnv(pairs: readonly string[]): (readonly [string, string])[] {
  return pairs.map((pair) => {
    const match = /^([A-Za-z_][A-Za-z0-9_]*)=([\s\S]*)$/.exec(pair);
    if (match === null) throw usageError(`-e is NAME=VALUE, not ${JSON.stringify(pair)}`, PATH);
    if (pair.includes("\0")) throw usageError("-e holds a NUL byte", PATH);
    return [match[1] ?? "", match[2] ?? ""];
  });
}

export const command = defineCommand({
  args: {
    ...VM_ARG,
    tty: { type: "boolean", alias: "t", description: "Gives the command a terminal." },
    env: { type: "string", alias: "e", valueHint: "name=value", description: "Sets a variable." },
    workdir: {
      type: "string",
      alias: "w",
      valueHint: "dir",
      description: "Where to run; else the workspace or /root.",
    },
    ...NO_STDIN_ARG,
    timeout: {
      type: "string",
      valueHint: "duration",
      description: "Stops the command after this time; the exit status is 124.",
    },
  },
  repeatable: ["env"],
  trailing: { name: "CMD...", description: "The command; everything after -- is its own." },
  isGuestStatus: true,
  examples: [
    ["banger exec box -- uname -a", "a command, with its own exit status"],
    ["banger exec box -- tar -c . > out.tar", "output is what the command wrote, byte for byte"],
    ["banger exec -t box -- top", "with a terminal"],
  ],
  next: "banger cp box:/root/result .",
  run: async ({ args, lists, rest, client, interrupts }) => {
    if (rest === null || rest.length === 0)
      throw usageError("banger vm exec needs a command after --, as in banger exec box -- uname -a", PATH);
    const env = readEnv(lists["env"] ?? []);
    const timeoutMs = args.timeout === undefined ? null : readDuration("--timeout", args.timeout);
    const connection = await connectGuest(await client(), checkVmRef(args.vm));
    const workDir = args.workdir ?? connection.workDir;
    const noStdin = args["no-stdin"] === true;
    return await execInGuest(
      connection,
      { argv: rest, workDir, env, tty: args.tty === true, timeoutMs, noStdin },
      interrupts,
    );
  },
});
