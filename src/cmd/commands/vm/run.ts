import { isatty } from "node:tty";
import type { VmRecord, WayIn } from "../../../shared/contract/schemas.ts";
import { BangerError } from "../../../shared/errors.ts";
import { usageError } from "../../line/usage.ts";
import { defineCommand, type Invocation } from "../../line/command.ts";
import { CREATE_ARGS, createVm, readCreate } from "../../vm/create.ts";
import { connectGuest } from "../../guest/connect.ts";
import { execInGuest, openShell } from "../../guest/exec.ts";

const PATH = ["vm", "run"];

export const command = defineCommand({
  args: {
    path: { type: "positional", required: false, description: "A git repository, which will be at /root/repo." },
    ...CREATE_ARGS,
    rm: { type: "boolean", description: "Deletes the VM after the command or shell, whatever its status." },
    detach: { type: "boolean", alias: "d", description: "Leaves the VM running and prints its name." },
    tty: { type: "boolean", alias: "t", description: "Gives the command a terminal." },
    branch: { type: "string", description: "With PATH: a new branch, made in the guest only." },
    from: { type: "string", valueHint: "ref", description: "With --branch: what the branch begins at." },
    "include-untracked": { type: "boolean", description: "With PATH: untracked files too, never ignored ones." },
    "dry-run": { type: "boolean", description: "With PATH: prints the files that would be copied, makes nothing." },
    bootstrap: {
      type: "boolean",
      default: true,
      description: "With PATH: installs the tools that the repository pins.",
      negativeDescription: "With PATH: doesn't install the tools that the repository pins.",
    },
  },
  trailing: { name: "CMD...", description: "Runs this instead of a shell; its exit status is banger's." },
  isGuestStatus: true,
  json: true,
  examples: [
    ["banger run", "a shell in a fresh sandbox"],
    ["banger run --rm -- uname -a", "one command in a sandbox that is gone afterwards"],
    ["banger run -d --name box --memory 4G", "a sandbox that stays, for banger exec"],
  ],
  next: "banger exec NAME -- CMD, banger ssh NAME, banger rm NAME",
  run: async (invocation) => {
    const { args, rest, json } = invocation;
    checkCombination(args, rest, json);
    const request = readCreate(args, true);
    if (args.path !== undefined) {
      throw new BangerError("NOT_YET", "workspaces are not built yet: a VM can't be given a repository", {
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
    throw usageError("-d leaves the VM running and --rm deletes it: give one of them", PATH);
  if (args.detach === true && rest !== null)
    throw usageError("-d runs no command: leave away -d, or the command and its --", PATH);
  if (rest?.length === 0) throw usageError("nothing stands after --", PATH);
  if (json && rest !== null) throw usageError("--json does not go with a command, whose output is its own", PATH);
  if (args.path !== undefined) return;
  for (const flag of ["branch", "from", "include-untracked", "dry-run"] as const) {
    if (args[flag] !== undefined) throw usageError(`--${flag} goes with PATH, a git repository`, PATH);
  }
}

/** The shell or command, then `--rm`. */
async function use(
  { client, out, interrupts, rest }: Omit<Invocation, "args">,
  vm: VmRecord,
  args: Values,
): Promise<number> {
  let connection: WayIn;
  try {
    connection = await connectGuest(await client(), vm.id);
  } catch (thrown) {
    out.note(`${vm.name} is kept, so that its console can be read: banger logs ${vm.name}`);
    throw thrown;
  }
  try {
    return rest === null
      ? await openShell(connection, interrupts, true)
      : await execInGuest(
          connection,
          { argv: rest, workDir: connection.workDir, env: [], tty: args.tty === true, timeoutMs: null },
          interrupts,
        );
  } finally {
    if (args.rm === true) {
      using _taken = interrupts.take(() => undefined);
      const always = await client({ ignoreInterrupts: true });
      await out.waiting(
        `deleting ${vm.name}`,
        async () => await always.call("vm.delete", { vms: [vm.id] }, { progress: () => undefined }),
      );
    } else {
      out.note(`${vm.name} keeps running: banger ssh ${vm.name} goes back in, banger rm ${vm.name} deletes it`);
    }
  }
}
