/** The CLI inside the test's own process: what it wrote, what it asked the daemon, how it ended. */

import { BangerError } from "../../src/shared/errors.ts";
import type { Client, Watch } from "../../src/cmd/daemon/client.ts";
import { Interrupts } from "../../src/cmd/terminal/interrupts.ts";
import { runCommandLine } from "../../src/cmd/main.ts";
import type { ResolvedSpec } from "../../src/shared/contract/schemas.ts";
import { Output, type Sink } from "../../src/cmd/terminal/output.ts";
import type { Owner } from "../../src/cmd/line/root.ts";

export interface CliResult {
  readonly status: number;
  readonly stdout: string;
  readonly stderr: string;
  readonly calls: readonly (readonly [method: string, input: unknown])[];
}

export class TextSink implements Sink {
  readonly isTerminal: boolean;
  text = "";

  constructor(isTerminal = false) {
    this.isTerminal = isTerminal;
  }

  write(bytes: string | Uint8Array): void {
    this.text += typeof bytes === "string" ? bytes : new TextDecoder().decode(bytes);
  }
}

/**
 * What the daemon answers, by method; a value that is an error is thrown, a function called with what watches. What
 * `vm.resolveSpec` would answer is also the first event of a create.
 */
export type Answers = Readonly<Record<string, unknown>>;

/** Runs a command line against a daemon that answers so; a method without an answer fails the test's command. */
export async function runInProcess(
  argv: readonly string[],
  answers: Answers = {},
  env: Readonly<Record<string, string | undefined>> = {},
  distrustedOwner: Owner | null = null,
  isTerminal = false,
): Promise<CliResult> {
  const [stdout, stderr] = [new TextSink(isTerminal), new TextSink(isTerminal)];
  const calls: [string, unknown][] = [];
  const client: Client = {
    call: async (method, input, watch) => {
      calls.push([method, input]);
      const resolved = answers["vm.resolveSpec"];
      if (method === "vm.create" && resolved !== undefined) watch?.spec?.(resolved as ResolvedSpec);
      const answer = Object.hasOwn(answers, method)
        ? answers[method]
        : new BangerError("DAEMON_UNREACHABLE", `the test has no answer to ${method}`);
      if (answer instanceof Error) throw answer;
      if (typeof answer === "function") return (answer as (watch?: Watch) => never)(watch);
      return answer as never;
    },
  };
  const status = await runCommandLine(argv, {
    out: new Output({ stdout, stderr, env }),
    interrupts: new Interrupts(),
    env,
    distrustedOwner: async () => distrustedOwner,
    connect: async () => client,
  });
  return { status, stdout: stdout.text, stderr: stderr.text, calls };
}
