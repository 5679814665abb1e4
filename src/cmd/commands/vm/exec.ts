import { NO_STDIN_ARG, VM_ARG, checkVmRef, readDuration } from "../../line/args.ts";
import { usageError } from "../../line/usage.ts";
import { defineCommand } from "../../line/command.ts";
import { connectGuest } from "../../guest/connect.ts";
import { execInGuest } from "../../guest/exec.ts";

const PATH = ["vm", "exec"];

function readEnv(pairs: readonly string[]): (readonly [string, string])[] {
  return pairs.map((pair) => {
    const match = /^([A-Za-z_][A-Za-z0-9_]*)=([\s\S]*)$/.exec(pair);
    if (match === null) throw usageError(`-e must be NAME=VALUE, not ${JSON.stringify(pair)}`, PATH);
    if (pair.includes("\0")) throw usageError("-e contains a NUL byte", PATH);
    return [match[1] ?? "", match[2] ?? ""];
  });
}

export const command = defineCommand({
  args: {
    ...VM_ARG,
    tty: { type: "boolean", alias: "t", description: "Gives the command a terminal." },
    env: { type: "string", alias: "e", valueHint: "name=value", description: "Sets an environment variable." },
    workdir: {
      type: "string",
      alias: "w",
      valueHint: "dir",
      description: "Working directory; default: /root.",
    },
    ...NO_STDIN_ARG,
    timeout: {
      type: "string",
      valueHint: "duration",
      description: "Stops the command after this time; the exit status is 124.",
    },
  },
  repeatable: ["env"],
  trailing: { name: "CMD...", description: "The command and its arguments." },
  isGuestStatus: true,
  examples: [
    ["banger exec box -- uname -a", "runs a command and returns its exit status"],
    ["banger exec box -- tar -c . > out.tar", "writes the output byte for byte"],
    ["banger exec -t box -- top", "runs it in a terminal"],
  ],
  next: "banger cp box:/root/result .",
  run: async ({ args, lists, rest, client, interrupts }) => {
    if (rest === null || rest.length === 0)
      throw usageError("banger vm exec needs a command after --, for example: banger exec box -- uname -a", PATH);
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
