/** Typed client of the owner API, over the daemon's unix socket. Lean: `ps` and `exec` pay for every import here. */

import { homedir } from "node:os";
import { MINIMUM_API_LEVEL } from "../../shared/contract/api-level.ts";
import type { InputOf, MethodName, OutputOf, Progress, StreamEvent } from "../../shared/contract/owner-api.ts";
import { BangerError, ERROR_TABLE, type ErrorDocument } from "../../shared/errors.ts";
import { type Paths, rootlessPaths, systemPaths } from "../../shared/places/paths.ts";
import type { ResolvedSpec } from "../../shared/contract/schemas.ts";
import { checkPrivateDirectory } from "../../shared/places/private-directory.ts";
import { VERSION } from "../../shared/version.ts";
import { Interrupts } from "../terminal/interrupts.ts";
import type { Output } from "../terminal/output.ts";
import { distrustedOwner, readOwner, refuseRoot } from "../line/root.ts";

/** A plain method answers within this; a streamed one says in its own words how long it takes. */
const ANSWER_TIMEOUT_MS = 180_000;

/** After an interrupt, an answer that has not begun is waited for so long. */
const HANG_UP_AFTER_MS = 300;

export interface Watch {
  /** Default: the stages on stderr. */
  readonly progress?: (progress: Progress) => void;
  /** What a create makes, before it makes it; told again when the create is asked for again. */
  readonly spec?: (resolved: ResolvedSpec) => void;
  /** Of followed logs: the text, and exactly the bytes. */
  readonly data?: (text: string, bytes: string | Uint8Array) => void;
  /** Cancels a streamed call, as an interrupt does. */
  readonly stop?: AbortSignal;
}

export interface Client {
  /** With BANGER_HOST: ssh to the machine of the daemon, to put before a way into one of its guests. */
  readonly via?: readonly string[];
  /**
   * Calls a method. An interrupt cancels a streamed one and waits until the daemon has undone it.
   * @throws BangerError the daemon's own, CANCELLED, DAEMON_UNREACHABLE, VERSION_MISMATCH
   */
  call<M extends MethodName>(method: M, input: InputOf<M>, watch?: Watch): Promise<OutputOf<M>>;
}

export interface ConnectOptions {
  /** Whether the daemon of rootless mode is started when none answers; default true. */
  readonly start?: boolean;
  /** Gives up on an answer after this long. */
  readonly timeoutMs?: number;
  /** For cleaning up after an interrupt: interrupts don't end these calls. */
  readonly ignoreInterrupts?: boolean;
}

/** Methods that change nothing: asked again when the daemon is killed before it answered. */
const READS: ReadonlySet<MethodName> = new Set<MethodName>([
  "system.ping",
  "system.doctor",
  "operation.list",
  "vm.resolveSpec",
  "vm.list",
  "vm.show",
  "vm.stats",
  "vm.connect",
  "vm.ports",
  "image.list",
  "image.show",
  "kernel.list",
  "kernel.show",
]);

type Env = Readonly<Record<string, string | undefined>>;

/**
 * Paths of whoever runs this process: the installed system's for its owner, else the user's own.
 * @throws BangerError CONFIG_INVALID; NOT_OWNER for root where another one is the installed system's owner
 */
export function ownPaths(env: Env): Paths {
  const uid = process.getuid?.() ?? -1;
  const system = systemPaths();
  const owner = readOwner(system.installFile);
  const distrusted = distrustedOwner(uid, owner);
  if (distrusted !== null) throw refuseRoot(distrusted, process.argv.slice(2));
  return uid === owner?.uid ? system : rootlessPaths(env, homedir(), uid);
}

/**
 * Like {@link ownPaths}, for commands that read this machine's files.
 * @throws BangerError USAGE when BANGER_HOST points to another machine
 */
export function localPaths(env: Env): Paths {
  if (hostOf(env) === null) return ownPaths(env);
  throw new BangerError("USAGE", "this command works on this machine only, but BANGER_HOST names another one", {
    hint: "unset BANGER_HOST",
  });
}

function hostOf(env: Env): string | null {
  const host = env["BANGER_HOST"] ?? "";
  return host === "" ? null : host;
}

/** Nobody listened, so nothing was asked: the request may be sent again. */
class NobodyListens extends Error {}

/** The image that the daemon of an installed system wants built by its owner's own process; null for any other failure. */
function imageToBuild(thrown: unknown): string | null {
  if (!(thrown instanceof BangerError) || thrown.code !== "IMAGE_NOT_BUILT") return null;
  const image = thrown.details?.["image"];
  return typeof image === "string" ? image : null;
}

/** The daemon took the request and was gone before it answered. */
const isGoneDaemon = (thrown: unknown): boolean => thrown instanceof BangerError && thrown.details?.["gone"] === true;

/**
 * A client of this user's daemon.
 * @throws BangerError UNSAFE_DIRECTORY
 */
export async function connectClient(
  env: Env,
  out: Output,
  ownInterrupts: Interrupts,
  { start = true, timeoutMs = ANSWER_TIMEOUT_MS, ignoreInterrupts = false }: ConnectOptions = {},
): Promise<Client> {
  const interrupts = ignoreInterrupts ? new Interrupts() : ownInterrupts;
  const paths = ownPaths(env);
  const context: CallContext = { out, interrupts, timeoutMs, warnOfVersion: versionWarner(out) };
  const host = hostOf(env);
  if (host !== null) return await connectHost(host, paths, start, context);
  // Below /run, where only root could put something else.
  if (paths.mode === "rootless") await checkPrivateDirectory(paths.runtimeDir);
  let { apiSocket } = paths;
  return {
    call: async (method, input, watch = {}) => {
      const request = async () => await callOnce(apiSocket, method, input, watch, context);
      const requestAgain = async (thrown: unknown) => {
        if (isGoneDaemon(thrown) && READS.has(method)) return await request();
        throw thrown;
      };
      try {
        return await request().catch(requestAgain);
      } catch (thrown) {
        const image = imageToBuild(thrown);
        if (image !== null) {
          const { buildImageHere } = await import("./build-image.ts");
          const again = method === "image.build" && (input as { force?: boolean }).force === true;
          const stages = out.stages();
          const show = watch.progress ?? ((progress: Progress) => stages.show(progress));
          await buildImageHere(image, again, show, interrupts.signal).finally(() => stages.end());
          const settled = (again ? { ...input, force: false } : input) as typeof input;
          return await callOnce(apiSocket, method, settled, watch, context);
        }
        if (!(thrown instanceof NobodyListens)) throw thrown;
      }
      if (!start || paths.mode === "system")
        throw new BangerError("DAEMON_UNREACHABLE", `no daemon listens on ${apiSocket}`, {
          details: { listens: false },
          hint: paths.mode === "system" ? "banger system status" : "banger ps",
        });
      const { startDaemon } = await import("./start.ts");
      ({ apiSocket } = await out.waiting(
        "Starting the daemon",
        async () => await startDaemon(paths, env, interrupts.signal),
      ));
      try {
        return await request();
      } catch (thrown) {
        throw thrown instanceof NobodyListens ? unreachable("the daemon stopped right after it started") : thrown;
      }
    },
  };
}

/** A client of another machine's daemon. Commands in its guests go through that machine as well. */
async function connectHost(host: string, paths: Paths, start: boolean, context: CallContext): Promise<Client> {
  const { connectRemote, parseHost } = await import("./remote-host.ts");
  const { socket, via } = await connectRemote(parseHost(host), paths, start);
  return {
    via,
    call: async (method, input, watch = {}) => {
      if (method === "vm.forward")
        throw new BangerError("NOT_YET", "forwards to another machine's VMs are not available yet", {
          hint: `ssh -L PORT:127.0.0.1:PORT ${via.at(-1)}`,
        });
      try {
        return await callOnce(socket, method, input, watch, context);
      } catch (thrown) {
        throw thrown instanceof NobodyListens ? unreachable(`the connection to ${via.at(-1)} was lost`) : thrown;
      }
    },
  };
}

function versionWarner(out: Output): (version: string) => void {
  let hasWarned = false;
  return (version) => {
    if (hasWarned) return;
    hasWarned = true;
    out.warn(
      `the daemon is banger ${version}, but this is ${VERSION}; after "banger daemon stop" the next command starts this version`,
    );
  };
}

function unreachable(message: string): BangerError {
  return new BangerError("DAEMON_UNREACHABLE", message);
}

/** The daemon's error; one whose code this version doesn't know keeps its message. */
export function errorOf(document: ErrorDocument): BangerError {
  const isKnown = Object.hasOwn(ERROR_TABLE, document.code);
  return BangerError.fromDocument(isKnown ? document : { ...document, code: "FAILED" });
}

interface CallContext {
  readonly out: Output;
  readonly interrupts: Interrupts;
  readonly timeoutMs: number;
  warnOfVersion(version: string): void;
}

const NOBODY_CODES = new Set(["ENOENT", "ECONNREFUSED", "ConnectionRefused", "FailedToOpenSocket"]);

async function callOnce<M extends MethodName>(
  socket: string,
  method: M,
  input: InputOf<M>,
  watch: Watch,
  context: CallContext,
): Promise<OutputOf<M>> {
  const { interrupts } = context;
  interrupts.signal.throwIfAborted();
  const hangUp = new AbortController();
  let timer = setTimeout(
    () => hangUp.abort(unreachable(`the daemon did not answer ${method} within ${context.timeoutMs / 1000} s`)),
    context.timeoutMs,
  );
  // A streamed answer begins at once, and then the daemon is asked to undo; hanging up would not tell when it has.
  const cancel = (): void => {
    clearTimeout(timer);
    timer = setTimeout(() => hangUp.abort(interrupts.signal.reason), HANG_UP_AFTER_MS);
  };
  interrupts.signal.addEventListener("abort", cancel);
  try {
    const response = await context.out.waiting(
      "Waiting for the daemon",
      async () => await send(socket, method, input, hangUp.signal),
    );
    checkVersion(response, context);
    if (response.headers.get("content-type") !== "application/x-ndjson") {
      const answer = JSON.parse(await response.text()) as { result: OutputOf<M> } | { error: ErrorDocument };
      if ("error" in answer) throw errorOf(answer.error);
      return answer.result;
    }
    clearTimeout(timer);
    // From here on an interrupt asks the daemon to undo, and the undo's end is waited for.
    interrupts.signal.removeEventListener("abort", cancel);
    return (await follow(socket, response, watch, context)) as OutputOf<M>;
  } catch (thrown) {
    throw explain(thrown, hangUp.signal);
  } finally {
    clearTimeout(timer);
    interrupts.signal.removeEventListener("abort", cancel);
  }
}

async function send(socket: string, method: string, input: unknown, signal: AbortSignal): Promise<Response> {
  return await fetch(`http://banger/v1/${method}`, {
    method: "POST",
    unix: socket,
    body: JSON.stringify(input),
    headers: { "content-type": "application/json" },
    redirect: "error",
    signal,
    // Bun's own limit on silence; a boot under emulation says nothing for longer.
    timeout: false,
  } as BunFetchRequestInit);
}

function explain(thrown: unknown, hungUp: AbortSignal): unknown {
  if (hungUp.aborted && hungUp.reason instanceof BangerError) return hungUp.reason;
  if (thrown instanceof BangerError || thrown instanceof NobodyListens) return thrown;
  const code = (thrown as { code?: unknown }).code;
  if (typeof code === "string" && NOBODY_CODES.has(code)) return new NobodyListens();
  if (typeof code === "string" || thrown instanceof SyntaxError)
    return new BangerError(
      "DAEMON_UNREACHABLE",
      `the daemon stopped before it answered (${String(code ?? "half an answer")})`,
      { cause: thrown, details: { gone: true } },
    );
  return thrown;
}

function checkVersion(response: Response, { warnOfVersion }: CallContext): void {
  const level = Number(response.headers.get("banger-api-level") ?? NaN);
  const version = response.headers.get("banger-version") ?? "unknown";
  // Also true of whatever else might listen there.
  if (!(level >= MINIMUM_API_LEVEL)) {
    throw new BangerError(
      "VERSION_MISMATCH",
      `the daemon is banger ${version} with API level ${level}; this banger needs level ${MINIMUM_API_LEVEL} or later`,
    );
  }
  if (version !== VERSION) warnOfVersion(version);
}

/** Reads a streamed answer to its end. */
async function follow(socket: string, response: Response, watch: Watch, context: CallContext): Promise<unknown> {
  const { interrupts, out } = context;
  const stages = out.stages();
  const show = watch.progress ?? ((progress: Progress) => stages.show(progress));
  const operation = response.headers.get("banger-op");
  const cancel = (): void => {
    if (operation === null) return;
    // Its failure shows as the end of the stream that is read below.
    void send(socket, "operation.cancel", { id: operation }, AbortSignal.timeout(5000)).catch(() => undefined);
  };
  if (interrupts.signal.aborted) cancel();
  interrupts.signal.addEventListener("abort", cancel);
  watch.stop?.addEventListener("abort", cancel);
  try {
    for await (const event of events(response)) {
      if (event.event === "progress") show(event);
      else if (event.event === "spec") watch.spec?.(event);
      else if (event.event === "data")
        watch.data?.(event.data, event.base64 === undefined ? event.data : Buffer.from(event.base64, "base64"));
      else if (event.event === "result") return event.result;
      else if (event.event === "error") throw errorOf(event.error);
    }
  } finally {
    interrupts.signal.removeEventListener("abort", cancel);
    watch.stop?.removeEventListener("abort", cancel);
    stages.end();
  }
  throw unreachable("the daemon stopped before the operation ended; unfinished work is undone when it starts again");
}

async function* events(response: Response): AsyncGenerator<StreamEvent> {
  const decoder = new TextDecoder();
  let text = "";
  for await (const chunk of response.body ?? []) {
    text += decoder.decode(chunk, { stream: true });
    const lines = text.split("\n");
    text = lines.pop() ?? "";
    for (const line of lines) if (line !== "") yield JSON.parse(line) as StreamEvent;
  }
}
