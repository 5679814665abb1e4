/** Operations: work that a client watches, may cancel, and may leave running. */

import type { Progress, StreamEvent } from "../../shared/contract/owner-api.ts";
import { BangerError, toBangerError } from "../../shared/errors.ts";
import type { OperationId, OperationRecord, ResolvedSpec } from "../../shared/contract/schemas.ts";
import type { Log } from "../log.ts";
import { withOperation } from "../engine/system/privileged.ts";

/** Progress lines kept for those who begin to watch later. */
const BACKLOG = 200;
const KEPT_AFTER_END_MS = 10 * 60_000;

type Watcher = (event: StreamEvent) => void;

export interface OperationContext {
  readonly op: OperationId;
  readonly signal: AbortSignal;
  progress(progress: Progress): void;
  /** What a create makes. */
  resolved(spec: ResolvedSpec): void;
  /** What a followed log says. Not kept for later watchers. */
  data(bytes: Uint8Array): void;
}

interface Operation {
  readonly id: OperationId;
  readonly method: string;
  readonly startedAt: string;
  readonly abort: AbortController;
  readonly watchers: Set<Watcher>;
  readonly backlog: StreamEvent[];
  state: OperationRecord["state"];
  stage: string | null;
  end: StreamEvent | null;
}

function dataEvent(bytes: Uint8Array): StreamEvent {
  const buffer = Buffer.from(bytes);
  const data = buffer.toString("utf8");
  return { event: "data", data, ...(Buffer.from(data).equals(buffer) ? {} : { base64: buffer.toString("base64") }) };
}

export function newOperationId(): OperationId {
  return `op-${Buffer.from(crypto.getRandomValues(new Uint8Array(6))).toString("hex")}`;
}

export class Operations {
  readonly #operations = new Map<string, Operation>();
  readonly #log: Log;

  constructor(log: Log) {
    this.#log = log;
  }

  /** Starts `work` and returns its id at once; the end comes to watchers as `result` or `error`. */
  begin(method: string, id: OperationId, work: (context: OperationContext) => Promise<unknown>): void {
    const operation: Operation = {
      id,
      method,
      startedAt: new Date().toISOString(),
      abort: new AbortController(),
      watchers: new Set(),
      backlog: [{ event: "operation", id }],
      state: "running",
      stage: null,
      end: null,
    };
    this.#operations.set(id, operation);
    const keepAndTell = (event: StreamEvent): void => {
      operation.backlog.push(event);
      // The id, and what is made, are kept.
      if (operation.backlog.length > BACKLOG)
        operation.backlog.splice(
          operation.backlog.findIndex(({ event: kind }) => kind === "progress"),
          1,
        );
      this.#tell(operation, event);
    };
    const context: OperationContext = {
      op: id,
      signal: operation.abort.signal,
      progress: (progress) => {
        operation.stage = progress.message;
        keepAndTell({ event: "progress", ...progress });
      },
      resolved: (spec) => keepAndTell({ event: "spec", ...spec }),
      data: (bytes) => this.#tell(operation, dataEvent(bytes)),
    };
    const began = performance.now();
    void withOperation(id, () => work(context))
      .then(
        (result): StreamEvent => {
          operation.state = "done";
          return { event: "result", result };
        },
        (thrown: unknown): StreamEvent => {
          const error = toBangerError(thrown, id);
          operation.state = error.code === "CANCELLED" ? "cancelled" : "failed";
          if (error.code === "INTERNAL")
            this.#log.error("unexpected failure", {
              op: id,
              method,
              stack: error.cause instanceof Error ? error.cause.stack : null,
            });
          return { event: "error", error: error.toDocument() };
        },
      )
      .then((end) => {
        operation.end = end;
        this.#log.info("operation ended", {
          op: id,
          method,
          outcome: end.event === "error" ? end.error.code : "ok",
          ms: Math.round(performance.now() - began),
          ...(end.event === "error" ? { error: end.error.message } : {}),
        });
        this.#tell(operation, end);
        operation.watchers.clear();
        setTimeout(() => this.#operations.delete(id), KEPT_AFTER_END_MS).unref();
      });
  }

  #tell(operation: Operation, event: StreamEvent): void {
    for (const watcher of operation.watchers) watcher(event);
  }

  /** Calls `watcher` with what was and what comes, to the end. Returns how to stop watching. */
  watch(id: string, watcher: Watcher): () => void {
    const operation = this.#find(id);
    for (const event of operation.backlog) watcher(event);
    if (operation.end !== null) {
      watcher(operation.end);
      return () => undefined;
    }
    operation.watchers.add(watcher);
    return () => operation.watchers.delete(watcher);
  }

  cancel(id: string): void {
    this.#find(id).abort.abort();
  }

  list(): readonly OperationRecord[] {
    return [...this.#operations.values()].map(({ id, method, state, startedAt, stage }) => ({
      id,
      method,
      state,
      startedAt,
      stage,
    }));
  }

  /** Cancels everything and waits until it is undone, at most `timeoutMs`. */
  async drain(timeoutMs: number): Promise<void> {
    for (const operation of this.#operations.values()) operation.abort.abort();
    const deadline = Date.now() + timeoutMs;
    while ([...this.#operations.values()].some(({ end }) => end === null) && Date.now() < deadline) await Bun.sleep(20);
  }

  #find(id: string): Operation {
    const operation = this.#operations.get(id);
    if (operation === undefined) throw new BangerError("OPERATION_NOT_FOUND", `there is no operation ${id}`);
    return operation;
  }
}
