/** The CLI's edge: runs one command line and turns whatever happens into an exit status. */

import { BangerError, exitStatusOf, toBangerError } from "../shared/errors.ts";
import { asksForJson, type Plan, planCommand } from "./line/parse.ts";
import type { Client, ConnectOptions } from "./daemon/client.ts";
import { ROOT } from "./commands/index.ts";
import { Interrupts } from "./terminal/interrupts.ts";
import { descriptorSink, Output, OutputClosed } from "./terminal/output.ts";
import type { Owner } from "./line/root.ts";
import { type RawArgument, readRawArguments, requireText } from "./line/raw-arguments.ts";

type Env = Readonly<Record<string, string | undefined>>;

/** What a command line touches; tests put their own here. */
export interface Surroundings {
  readonly out: Output;
  readonly interrupts: Interrupts;
  readonly env: Env;
  /** The owner of an installed system, if this is root, who must not obey that owner. @throws BangerError CONFIG_INVALID */
  distrustedOwner(): Promise<Owner | null>;
  connect(options: ConnectOptions): Promise<Client>;
}

/** The process's own surroundings. */
function ownSurroundings(): Surroundings {
  const { env } = process;
  const out = new Output({ stdout: descriptorSink(1), stderr: descriptorSink(2), env });
  const interrupts = new Interrupts();
  return {
    out,
    interrupts,
    env,
    distrustedOwner: async () => {
      const uid = process.getuid?.() ?? -1;
      if (uid !== 0) return null;
      const [{ distrustedOwner, readOwner }, { systemPaths }] = await Promise.all([
        import("./line/root.ts"),
        import("../shared/places/paths.ts"),
      ]);
      return distrustedOwner(uid, readOwner(systemPaths().installFile));
    },
    connect: async (options) => await (await import("./daemon/client.ts")).connectClient(env, out, interrupts, options),
  };
}

/** Runs a command line (without the program's name) and returns the exit status. Never throws. */
export async function runCli(argv: readonly string[]): Promise<number> {
  const surroundings = ownSurroundings();
  surroundings.interrupts.listen();
  try {
    return await runCommandLine(argv, surroundings, readRawArguments(argv));
  } catch (thrown) {
    const error = toBangerError(thrown);
    surroundings.out.error(error, asksForJson(argv));
    return exitStatusOf(error.code);
  } finally {
    surroundings.interrupts.release();
  }
}

/** {@link runCli} with given surroundings. */
export async function runCommandLine(
  argv: readonly string[],
  surroundings: Surroundings,
  raw: readonly RawArgument[] = argv,
): Promise<number> {
  const status = await runPlanned(argv, surroundings, raw);
  try {
    surroundings.out.finish();
  } catch {
    // The rest of a terminal that is gone.
  }
  return status;
}

async function runPlanned(
  argv: readonly string[],
  surroundings: Surroundings,
  raw: readonly RawArgument[],
): Promise<number> {
  const { out, interrupts, env } = surroundings;
  let plan: Plan | null = null;
  try {
    plan = await planCommand(argv, ROOT);
    const own = ownWords(plan, argv);
    requireText(raw.slice(0, own));
    switch (plan.kind) {
      case "version":
        await (await import("./commands/version.ts")).printVersion(out, plan.json);
        return 0;
      case "group-help":
        out.data((await import("./line/help.ts")).groupHelp(plan.path, plan.group));
        return 0;
      case "command-help":
        out.data((await import("./line/help.ts")).commandHelp(plan.path, plan.command, plan.entry));
        return 0;
      case "run": {
        const { scanned, command, entry } = plan;
        if (scanned.noColor) out.disableColor();
        const owner = entry.forRoot === true ? null : await surroundings.distrustedOwner();
        if (owner !== null) throw (await import("./line/root.ts")).refuseRoot(owner, argv);
        const status = await command.run({
          ...scanned,
          rawRest: raw.slice(own),
          out,
          interrupts,
          env,
          tree: ROOT,
          client: (options = {}) => surroundings.connect(options),
        });
        return status ?? 0;
      }
    }
  } catch (thrown) {
    if (thrown instanceof OutputClosed) return 0;
    const error = withHelp(toBangerError(thrown), plan);
    const json = plan?.kind === "run" ? plan.scanned.json : asksForJson(argv);
    try {
      out.error(error, json && error.code !== "OUTPUT_FAILED");
    } catch (again) {
      if (again instanceof OutputClosed) return statusOf(error, plan, interrupts);
      out.error(toBangerError(again));
    }
    return statusOf(error, plan, interrupts);
  }
}

/** How many of the words are banger's own, and so text; the rest are a guest command's, and may be any bytes. */
function ownWords(plan: Plan, argv: readonly string[]): number {
  const isGuests = plan.kind === "run" && plan.command.takesBytes === true;
  return argv.length - (isGuests ? (plan.scanned.rest ?? []).length : 0);
}

/** A wrong value whose error names no next command gets the help of the command it was given to. */
function withHelp(error: BangerError, plan: Plan | null): BangerError {
  if (error.hint !== undefined || plan === null || plan.kind === "version" || exitStatusOf(error.code) !== 2)
    return error;
  const hint = `banger ${plan.path.join(" ")} --help`;
  return new BangerError(error.code, error.message, { ...error.toDocument(), hint, cause: error.cause });
}

/** The table's status; where the guest command's own status would stand, one that can't be mistaken for it. */
function statusOf(error: BangerError, plan: Plan | null, interrupts: Interrupts): number {
  const status = exitStatusOf(error.code);
  if (error.code === "CANCELLED" && interrupts.exitStatus !== null) return interrupts.exitStatus;
  const isBeforeGuest = plan?.kind === "run" && plan.command.isGuestStatus === true && plan.scanned.rest !== null;
  return isBeforeGuest && status !== 2 && error.code !== "EXEC_TIMEOUT" && error.code !== "OUTPUT_FAILED"
    ? exitStatusOf("EXEC_FAILED")
    : status;
}
