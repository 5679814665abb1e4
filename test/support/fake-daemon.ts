/** An owner API that answers what a test wants, on the socket where the CLI looks; and the CLI as a process that talks to it. */

import { createServer, type ServerResponse } from "node:http";
import { chmod, mkdir, mkdtemp, rm, symlink, writeFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import { agentSocketPath, SERIAL_PORTS } from "../../src/shared/agent/serial-port.ts";
import { API_LEVEL, type StreamEvent } from "../../src/shared/contract/owner-api.ts";
import { rootlessPaths } from "../../src/shared/places/paths.ts";
import { recordRuntimeDir } from "../../src/shared/places/runtime-directory.ts";
import { VERSION } from "../../src/shared/version.ts";

const MAIN = resolve(import.meta.dir, "../../src/main.ts");

export interface Request {
  readonly method: string;
  readonly input: Readonly<Record<string, unknown>>;
  readonly response: ServerResponse;
}

/** A result, an error document, or a function that answers by itself. */
type Answer = { readonly result: unknown } | { readonly error: unknown } | ((request: Request) => void);

export class FakeDaemon implements AsyncDisposable {
  readonly dir: string;
  readonly answers = new Map<string, Answer>();
  readonly requests: Request[] = [];
  readonly headers: Record<string, string> = {
    "banger-op": "op-0123456789ab",
    "banger-version": VERSION,
    "banger-api-level": String(API_LEVEL),
  };
  readonly #server = createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on("data", (chunk: Buffer) => chunks.push(chunk));
    request.on("end", () => {
      const method = (request.url ?? "").replace("/v1/", "");
      const input = JSON.parse(Buffer.concat(chunks).toString()) as Record<string, unknown>;
      this.requests.push({ method, input, response });
      for (const [name, value] of Object.entries(this.headers)) response.setHeader(name, value);
      const answer = this.answers.get(method) ?? { error: { code: "FAILED", message: `no answer to ${method}` } };
      if (typeof answer === "function") answer({ method, input, response });
      else response.writeHead(200, { "content-type": "application/json" }).end(JSON.stringify(answer));
    });
  });

  constructor(dir: string) {
    this.dir = dir;
  }

  get env(): Record<string, string> {
    return { HOME: this.dir, XDG_STATE_HOME: join(this.dir, "banger/state-home"), PATH: process.env["PATH"] ?? "" };
  }

  async listen(): Promise<void> {
    const runtimeDir = join(this.dir, "banger");
    const { stateDir } = rootlessPaths(this.env, this.dir, -1);
    await mkdir(stateDir, { recursive: true, mode: 0o700 });
    await recordRuntimeDir(stateDir, runtimeDir);
    await new Promise<void>((done) => this.#server.listen(join(runtimeDir, "bangerd.sock"), done));
  }

  /** `vm.connect` to a "guest" that is this very machine: an ssh that runs the line it is given, or a script of the test's. */
  async actAsGuest(script = 'for line do :; done; cd /; exec sh -c "$line"'): Promise<void> {
    const ssh = join(this.dir, "ssh");
    await writeFile(ssh, `#!/bin/sh\n${script}\n`);
    await chmod(ssh, 0o700);
    this.answers.set("vm.connect", {
      result: { kind: "ssh", id: "0123456789ab", name: "box", sshArgv: [ssh, "root@guest"], workDir: "/" },
    });
  }

  /** `vm.connect` to a "guest" that is this very machine, with an agent that listens on `socket`. */
  async actAsAgentGuest(socket: string): Promise<void> {
    for (const port of SERIAL_PORTS) await symlink(socket, agentSocketPath(this.dir, port));
    const channel = { kind: "serial", directory: this.dir };
    this.answers.set("vm.connect", {
      result: { kind: "agent", id: "0123456789ab", name: "box", workDir: "/", channel },
    });
  }

  /** The CLI's command line, for a shell or a terminal that runs it with {@link env}. */
  get cli(): readonly string[] {
    return [process.execPath, MAIN];
  }

  /** The CLI as a process. */
  spawn(
    argv: readonly string[],
    stdin: "ignore" | "pipe" | Uint8Array = "ignore",
  ): Bun.Subprocess<"ignore" | "pipe" | Uint8Array, "pipe", "pipe"> {
    return Bun.spawn([...this.cli, ...argv], {
      cwd: this.dir,
      env: this.env,
      stdin,
      stdout: "pipe",
      stderr: "pipe",
    });
  }

  async run(
    argv: readonly string[],
    stdin: "ignore" | Uint8Array = "ignore",
  ): Promise<{ readonly status: number; readonly stdout: string; readonly stderr: string }> {
    const child = this.spawn(argv, stdin);
    const [stdout, stderr, status] = await Promise.all([
      new Response(child.stdout).text(),
      new Response(child.stderr).text(),
      child.exited,
    ]);
    return { status, stdout, stderr };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise<void>((done) => this.#server.close(() => done()));
    await rm(this.dir, { recursive: true, force: true });
  }
}

export async function startFakeDaemon(): Promise<FakeDaemon> {
  const daemon = new FakeDaemon(await mkdtemp("/tmp/bf-"));
  await daemon.listen();
  return daemon;
}

/** Begins a streamed answer; the returned function sends an event and ends after the last one. */
export function beginStream(response: ServerResponse): (event: StreamEvent) => void {
  response.writeHead(200, { "content-type": "application/x-ndjson" });
  return (event) => {
    response.write(`${JSON.stringify(event)}\n`);
    if (event.event === "result" || event.event === "error") response.end();
  };
}
