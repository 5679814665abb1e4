/** The CLI as a process against the agent's sanitizer build on this machine, behind a fake daemon. */

import { readFileSync } from "node:fs";
import { startAgent } from "../../support/agent.ts";
import { type FakeDaemon, startFakeDaemon } from "../../support/fake-daemon.ts";

if (process.env["BANGER_TEST_ROOT"] !== "1") throw new Error("these tests run in namespaces: bun test/root/run.ts");

export interface World extends AsyncDisposable {
  readonly daemon: FakeDaemon;
  /** A bash line in which `banger` is the CLI. */
  shell(line: string): Promise<{ readonly status: number; readonly stdout: string; readonly stderr: string }>;
}

/** For a shell: a function that is the CLI. */
export const shellFunction = (daemon: FakeDaemon): string =>
  `banger() { ${daemon.cli.map((word) => `'${word}'`).join(" ")} "$@"; }`;

export async function makeWorld(): Promise<World> {
  const agent = await startAgent();
  const daemon = await startFakeDaemon();
  await daemon.actAsAgentGuest(agent.socket);
  return {
    daemon,
    shell: async (line) => {
      const child = Bun.spawn(["bash", "-c", `${shellFunction(daemon)}; ${line}`], {
        cwd: daemon.dir,
        env: daemon.env,
        stdio: ["ignore", "pipe", "pipe"],
      });
      const [stdout, stderr, status] = await Promise.all([
        new Response(child.stdout).text(),
        new Response(child.stderr).text(),
        child.exited,
      ]);
      return { status, stdout, stderr };
    },
    [Symbol.asyncDispose]: async () => {
      await daemon[Symbol.asyncDispose]();
      await agent[Symbol.asyncDispose]();
    },
  };
}

/** Whether a process with this id runs: false for one that has ended, also if nobody has asked after it yet. */
export function isRunning(pid: number | string): boolean {
  try {
    return !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, "utf8"));
  } catch {
    return false;
  }
}

/** Reads lines of a stream one by one. */
export function readLines(stream: ReadableStream<Uint8Array>): () => Promise<string | null> {
  const reader = stream.getReader();
  const decoder = new TextDecoder();
  let text = "";
  return async () => {
    for (;;) {
      const end = text.indexOf("\n");
      if (end !== -1) {
        const line = text.slice(0, end);
        text = text.slice(end + 1);
        return line;
      }
      const { value, done } = await reader.read();
      if (done) return null;
      text += decoder.decode(value, { stream: true });
    }
  };
}
