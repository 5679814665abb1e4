import { isatty } from "node:tty";
import type { VmRecord } from "../../../shared/contract/schemas.ts";
import { BangerError } from "../../../shared/errors.ts";
import { usageError } from "../../line/usage.ts";
import { defineCommand, type Invocation } from "../../line/command.ts";
import { CREATE_ARGS, createVm, readCreate } from "../../vm/create.ts";
import { connectGuest } from "../../guest/connect.ts";
import { simpleCommand } from "../../guest/exec/command.ts";
import { execInGuest } from "../../guest/exec/exec.ts";
import { openShell } from "../../guest/exec/ssh.ts";
import { reachGuest } from "../../guest/reach.ts";

const PATH = ["vm", "run"];

export const command = defineCommand({
  args: {
    path: {
      type: "positional",
      required: false,
      description: "A git repository to copy to /root/repo (not available yet).",
    },
    ...CREATE_ARGS,
    rm: { type: "boolean", description: "Deletes the VM when the command or shell ends." },
    detach: { type: "boolean", alias: "d", description: "Starts the VM, prints its name and returns." },
    tty: { type: "boolean", alias: "t", description: "Gives the command a terminal." },
    branch: { type: "string", description: "With PATH: creates this branch in the guest." },
    from: { type: "string", valueHint: "ref", description: "With --branch: starts the branch here." },
    "include-untracked": {
      type: "boolean",
      description: "With PATH: copies untracked files, too, but not ignored ones.",
    },
    "dry-run": { type: "boolean", description: "With PATH: prints the files to copy and creates nothing." },
    bootstrap: {
      type: "boolean",
      default: true,
      description: "With PATH: installs the tools that the repository pins.",
      negativeDescription: "With PATH: doesn't install the tools that the repository pins.",
    },
  },
  trailing: { name: "CMD...", description: "Runs this instead of a shell and returns its exit status." },
  takesBytes: true,
  isGuestStatus: true,
  json: true,
  examples: [
    ["banger run", "opens a shell in a new VM"],
    ["banger run --rm -- uname -a", "runs one command in a new VM, then deletes the VM"],
    ["banger run -d --name box --memory 4G", "starts a VM to use with banger exec"],
  ],
  next: "banger exec NAME -- CMD, banger ssh NAME, banger rm NAME",
  run: async (invocation) => {
    const { args, rest, json } = invocation;
    checkCombination(args, rest, json);
    const request = readCreate(args, true);
    if (args.path !== undefined) {
      throw new BangerError("NOT_YET", "workspaces are not available yet, so vm run takes no PATH", {
        hint: "banger run -d --name box && banger cp . box:/root/repo",
      });
    }
    const vm = await createVm(invocation, request);
    // Without a terminal there is nobody to type into a shell.
    if (rest === null && (args.detach === true || !isatty(0))) {
      if (json) invocation.out.json(vm);
      else invocation.out.line(vm.name);
      return 0;
    }
    return await use(invocation, vm, args);
  },
});

interface Values {
  readonly path?: string | undefined;
  readonly rm?: boolean | undefined;
  readonly detach?: boolean | undefined;
  readonly tty?: boolean | undefined;
  readonly branch?: string | undefined;
  readonly from?: string | undefined;
  readonly "include-untracked"?: boolean | undefined;
  readonly "dry-run"?: boolean | undefined;
}

function checkCombination(args: Values, rest: readonly string[] | null, json: boolean): void {
  if (args.detach === true && args.rm === true)
    throw usageError("-d can't be combined with --rm: -d keeps the VM and --rm deletes it", PATH);
  if (args.detach === true && rest !== null)
    throw usageError("-d can't be combined with a command: drop -d or `-- CMD`", PATH);
  if (rest?.length === 0) throw usageError("there is no command after --", PATH);
  if (json && rest !== null) throw usageError("--json can't be combined with a command: stdout is the command's", PATH);
  if (args.path !== undefined) return;
  for (const flag of ["branch", "from", "include-untracked", "dry-run"] as const) {
    if (args[flag] !== undefined) throw usageError(`--${flag} needs PATH, a git repository`, PATH);
  }
}

/** The shell or command, then `--rm`. */
async function use(invocation: Omit<Invocation, "args">, vm: VmRecord, args: Values): Promise<number> {
  const { client, out, interrupts } = invocation;
  let enter: () => Promise<number>;
  try {
    enter = await findWay(invocation, vm, args.tty === true);
  } catch (thrown) {
    out.note(`${vm.name} is kept; read its console with: banger logs ${vm.name}`);
    throw thrown;
  }
  try {
    return await enter();
  } finally {
    if (args.rm === true) {
      using _taken = interrupts.take(() => undefined);
      const always = await client({ ignoreInterrupts: true });
      await out.waiting(
        `deleting ${vm.name}`,
        async () => await always.call("vm.delete", { vms: [vm.id] }, { progress: () => undefined }),
      );
    } else {
      out.note(`${vm.name} keeps running; banger ssh ${vm.name} reconnects, banger rm ${vm.name} deletes it`);
    }
  }
}

/** A shell is ssh's; a command goes through the agent. */
async function findWay(
  { client, out, interrupts, rest, rawRest }: Omit<Invocation, "args">,
  vm: VmRecord,
  tty: boolean,
): Promise<() => Promise<number>> {
  if (rest === null) {
    const connection = await connectGuest(await client(), vm.id);
    return async () => await openShell(connection, interrupts, true);
  }
  const guest = await reachGuest(await client(), vm.id, interrupts.signal);
  return async () => await execInGuest(guest, simpleCommand(rawRest, guest.workDir, tty), { out, interrupts });
}
