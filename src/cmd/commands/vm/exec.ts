import { NO_STDIN_ARG, VM_ARG, checkVmRef, readDuration } from "../../line/args.ts";
import { usageError } from "../../line/usage.ts";
import { defineCommand } from "../../line/command.ts";
import { execForProgram, execInGuest } from "../../guest/exec/exec.ts";
import { reachGuest } from "../../guest/reach.ts";

const PATH = ["vm", "exec"];
const EXAMPLE = "banger exec box -- uname -a";

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
    login: {
      type: "boolean",
      alias: "l",
      description: "Runs the user's login shell, with CMD as its command line if there is one.",
    },
    env: { type: "string", alias: "e", valueHint: "name=value", description: "Sets an environment variable." },
    workdir: {
      type: "string",
      alias: "w",
      valueHint: "dir",
      description: "Working directory; default: /root, or with -u the user's home.",
    },
    user: { type: "string", alias: "u", description: "Runs the command as this user of the VM; default: root." },
    ...NO_STDIN_ARG,
    timeout: {
      type: "string",
      valueHint: "duration",
      description: "Stops the command and all it started after this time; the exit status is 124.",
    },
    "wait-output": {
      type: "boolean",
      description: "Waits until everything that the command started has closed its output.",
    },
  },
  repeatable: ["env"],
  trailing: { name: "CMD...", description: "The command and its arguments." },
  takesBytes: true,
  isGuestStatus: true,
  json: true,
  examples: [
    [EXAMPLE, "runs a command and returns its exit status"],
    ["banger exec box -- tar -c . > out.tar", "writes the output byte for byte"],
    ["banger exec -t box -- top", "runs it in a terminal"],
    ["banger exec --json box -- make test", "prints status, times and output as JSON"],
  ],
  next: "banger cp box:/root/result .",
  run: async ({ args, lists, rest, rawRest, json, client, out, interrupts }) => {
    const login = args.login === true;
    if (!login && (rest === null || rest.length === 0))
      throw usageError(`banger vm exec needs a command after --, for example: ${EXAMPLE}`, PATH);
    if (rest?.length === 0) throw usageError("there is no command after --", PATH);
    const tty = args.tty === true;
    if (tty && json) throw usageError("--json can't be combined with -t: the terminal would show JSON", PATH);
    const env = readEnv(lists["env"] ?? []);
    const timeoutMs = args.timeout === undefined ? null : readDuration("--timeout", args.timeout);
    const guest = await reachGuest(await client(), checkVmRef(args.vm), interrupts.signal);
    const user = args.user ?? null;
    const command = {
      argv: rawRest,
      workDir: args.workdir ?? (user === null ? guest.workDir : null),
      ...{ env, user, tty, login, timeoutMs },
      noStdin: args["no-stdin"] === true,
      waitOutput: args["wait-output"] === true,
    };
    return await (json ? execForProgram : execInGuest)(guest, command, { out, interrupts });
  },
});
