/**
 * The owner API over a real unix socket, with handlers that only answer: what goes over the wire for every method, and
 * what the server does with requests that nobody should send.
 */

import { afterAll, beforeAll, expect, test } from "bun:test";
import { mkdtemp, rm } from "node:fs/promises";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as v from "valibot";
import type { Handlers } from "../../src/daemon/api/handlers.ts";
import type { Log } from "../../src/daemon/log.ts";
import { Operations, type OperationContext } from "../../src/daemon/api/operations.ts";
import { type ApiServer, serveApi } from "../../src/daemon/api/server.ts";
import { METHODS, type MethodName, type StreamEvent } from "../../src/shared/contract/owner-api.ts";
import { BangerError, type ErrorDocument } from "../../src/shared/errors.ts";
import { sampleOf } from "./samples.ts";

const NAMES = Object.keys(METHODS) as MethodName[];
const isStream = (name: MethodName): boolean => {
  const method = METHODS[name];
  return "stream" in method && method.stream;
};
const passes = (schema: v.GenericSchema, value: unknown): boolean => v.safeParse(schema, value).success;

let dir: string;
let socket: string;
let server: ApiServer;
let operations: Operations;
const logged: string[] = [];
const log: Log = {
  debug: () => undefined,
  info: (message, fields) => logged.push(JSON.stringify({ message, ...fields })),
  warn: (message, fields) => logged.push(JSON.stringify({ message, ...fields })),
  error: (message, fields) => logged.push(JSON.stringify({ message, ...fields })),
};
/** What handlers got, and what they do instead of answering with the sample. */
const received = new Map<string, unknown>();
let behave: ((name: MethodName, context: OperationContext) => Promise<unknown>) | null = null;

beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), "bc-"));
  socket = join(dir, "bangerd.sock");
  operations = new Operations(log);
  const handlers = Object.fromEntries(
    NAMES.map((name) => [
      name,
      async (input: unknown, context: OperationContext) => {
        received.set(name, input);
        return behave === null ? sampleOf(METHODS[name].output) : await behave(name, context);
      },
    ]),
  ) as unknown as Handlers;
  server = await serveApi({ path: socket }, handlers, operations, log, 500);
});

afterAll(async () => {
  await server.close();
  await rm(dir, { recursive: true, force: true });
});

/** While the callback runs, handlers do this. */
async function behaving(does: NonNullable<typeof behave>, work: () => Promise<void>): Promise<void> {
  behave = does;
  try {
    await work();
  } finally {
    behave = null;
  }
}

async function post(name: string, body: unknown, headers: Readonly<Record<string, string>> = {}): Promise<Response> {
  return await fetch(`http://banger/v1/${name}`, {
    method: "POST",
    unix: socket,
    headers: { "content-type": "application/json", ...headers },
    body: typeof body === "string" ? body : JSON.stringify(body),
    signal: AbortSignal.timeout(20_000),
  });
}

async function postError(name: string, body: unknown, headers: Readonly<Record<string, string>> = {}) {
  const response = await post(name, body, headers);
  const { error } = (await response.json()) as { error: ErrorDocument };
  return { status: response.status, ...error };
}

async function events(response: Response): Promise<readonly StreamEvent[]> {
  return (await response.text())
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line) as StreamEvent);
}

/** `operation.watch` follows another operation: it has a test of its own. */
const CALLABLE = NAMES.filter((name) => name !== "operation.watch");

test.each(CALLABLE)("%s: the golden request and answer", async (name) => {
  const request = sampleOf(METHODS[name].input);
  const response = await post(name, request);
  expect(response.status).toBe(200);
  expect(response.headers.get("banger-op")).toMatch(/^op-[0-9a-f]{12}$/);
  expect(response.headers.get("banger-api-level")).toMatch(/^\d+$/);
  expect(response.headers.get("banger-version")).not.toBe(null);
  expect(received.get(name)).toEqual(request);
  if (!isStream(name)) {
    expect(response.headers.get("content-type")).toBe("application/json");
    expect({ request, answer: await response.json() }).toMatchSnapshot();
    return;
  }
  expect(response.headers.get("content-type")).toBe("application/x-ndjson");
  const [first, ...rest] = await events(response);
  expect(first).toEqual({ event: "operation", id: response.headers.get("banger-op") ?? "" });
  expect({ request, answer: rest }).toMatchSnapshot();
});

test("which methods there are, which stream, and how each may fail", () => {
  expect(
    NAMES.map(
      (name) =>
        `${name}${isStream(name) ? " (stream)" : ""}: ${[...METHODS[name].errors].join(" ") || "no errors of its own"}`,
    ),
  ).toMatchSnapshot();
});

test.each(NAMES)("%s: an unknown key is refused, by name", async (name) => {
  const error = await postError(name, { ...(sampleOf(METHODS[name].input) as object), surplus: 1 });
  expect(error).toMatchObject({ status: 400, code: "INVALID_REQUEST" });
  expect(error.message).toContain("surplus");
});

test.each(NAMES.filter((name) => Object.keys(sampleOf(METHODS[name].input) as object).length > 0))(
  "%s: a field of a wrong type is refused, and no handler sees it",
  async (name) => {
    const good = sampleOf(METHODS[name].input) as Record<string, unknown>;
    for (const key of Object.keys(good)) {
      for (const bad of [null, { nonsense: 1 }, ["__proto__", 1]]) {
        received.delete(name);
        const error = await postError(name, { ...good, [key]: bad });
        expect(error.status).toBe(400);
        expect(["INVALID_REQUEST", "INVALID_NAME"]).toContain(error.code);
        expect(received.has(name)).toBe(false);
      }
    }
  },
);

test.each(CALLABLE.filter((name) => !passes(METHODS[name].output, "wrong")))(
  "%s: a result that is not of the schema is a bug, and stays inside",
  async (name) => {
    await behaving(
      async () => "wrong",
      async () => {
        const response = await post(name, sampleOf(METHODS[name].input));
        const error = isStream(name)
          ? ((await events(response)).at(-1) as unknown as { error: ErrorDocument }).error
          : ((await response.json()) as { error: ErrorDocument }).error;
        expect(error.code).toBe("INTERNAL");
        expect(error.op).toBe(response.headers.get("banger-op") ?? "");
      },
    );
  },
);

test("defaults are filled in before a handler sees them", async () => {
  await (await post("vm.kill", { vms: ["a"] })).text();
  expect(received.get("vm.kill")).toEqual({ vms: ["a"], signal: "KILL" });
  await (await post("vm.create", { start: false })).text();
  expect(received.get("vm.create")).toEqual({ start: false, spec: {} });
});

test("a wrong name is told as one", async () => {
  expect(await postError("vm.create", { name: "Not_A_Name", start: true })).toMatchObject({
    status: 400,
    code: "INVALID_NAME",
  });
});

test.each(["vm.unheardOf", "constructor", "__proto__", "toString", "vm.list/", "vm%2Elist", ""])(
  "a newer client's method that this server doesn't have (%s) is an error, not a closed connection",
  async (name) => {
    expect(await postError(name, {})).toMatchObject({ status: 400, code: "INVALID_REQUEST" });
  },
);

test("an answer of an older server that lacks a field doesn't pass for the newer one's", () => {
  const answer = sampleOf(METHODS["vm.show"].output) as Record<string, unknown>;
  expect(passes(METHODS["vm.show"].output, answer)).toBe(true);
  delete answer["kernel"];
  expect(passes(METHODS["vm.show"].output, answer)).toBe(false);
});

test.each(["GET", "PUT", "DELETE", "OPTIONS"])("%s is no way to call a method", async (method) => {
  const response = await fetch("http://banger/v1/vm.list", {
    method,
    unix: socket,
    signal: AbortSignal.timeout(20_000),
  });
  expect(response.status).toBe(400);
});

test.each([
  ["Origin", "https://example.org"],
  ["Origin", "null"],
  ["Referer", "http://127.0.0.1/"],
])("a request from a web page (%s: %s) is refused before anything runs", async (header, value) => {
  received.delete("vm.delete");
  expect(await postError("vm.delete", { vms: ["box"] }, { [header]: value })).toMatchObject({
    status: 403,
    code: "NOT_OWNER",
  });
  expect(received.has("vm.delete")).toBe(false);
});

test.each(["{", "[1,", "nonsense", '"text"', "[]", "null", "17"])(
  "a body that is no JSON object (%s) is refused",
  async (body) => {
    expect(await postError("vm.list", body)).toMatchObject({ status: 400, code: "INVALID_REQUEST" });
  },
);

test("a body over 1 MiB is refused", async () => {
  const error = await postError("vm.show", { vm: "x".repeat(1024 * 1024) });
  expect(error).toMatchObject({ status: 400, code: "INVALID_REQUEST" });
  expect(error.message).toContain("1 MiB");
});

test("a body of just under 1 MiB is read whole", async () => {
  const error = await postError("vm.show", { vm: "x".repeat(1024 * 1024 - 20) });
  expect(error).toMatchObject({ status: 400, code: "INVALID_REQUEST" });
  expect(error.message).toStartWith("vm.show: vm:");
});

/** What comes back for bytes written by hand, to the end of the connection. */
async function exchange(...pieces: readonly string[]): Promise<string> {
  return await new Promise((resolve, reject) => {
    const client = connect(socket);
    let text = "";
    client.setTimeout(20_000, () => client.destroy(new Error("the server kept the connection open")));
    client.on("data", (chunk) => (text += chunk.toString()));
    client.on("error", reject);
    client.on("close", () => resolve(text));
    for (const piece of pieces) client.write(piece);
  });
}

test("a body that never comes is not waited for", async () => {
  const text = await exchange("POST /v1/vm.list HTTP/1.1\r\nHost: banger\r\nContent-Length: 12\r\n\r\n", '{"all"');
  expect(text).not.toContain("200 OK");
}, 30_000);

test("half a request and then nothing takes nothing down", async () => {
  const client = connect(socket);
  await new Promise<void>((resolve) => client.write("POST /v1/vm.li", () => resolve()));
  client.destroy();
  expect((await post("vm.list", { all: true })).status).toBe(200);
});

test("what isn't HTTP is hung up on", async () => {
  expect(await exchange("\0\0\0\u0010not http at all\r\n\r\n")).not.toContain("200 OK");
  expect((await post("vm.list", { all: true })).status).toBe(200);
});

test("two requests on one connection get two answers, in order", async () => {
  const request = (path: string, body: string, close: boolean): string =>
    `POST ${path} HTTP/1.1\r\nHost: banger\r\nContent-Length: ${body.length}\r\n${close ? "Connection: close\r\n" : ""}\r\n${body}`;
  const text = await exchange(
    request("/v1/system.gc", '{"dryRun":true}', false),
    request("/v1/vm.nothing", "{}", true),
  );
  expect(text.match(/HTTP\/1\.1 \d+/g)).toEqual(["HTTP/1.1 200", "HTTP/1.1 400"]);
});

test("a handler's error keeps code, details and hint, and gets the operation's id", async () => {
  await behaving(
    async () => {
      throw new BangerError("VM_NOT_FOUND", "no VM is named box", { details: { ref: "box" } });
    },
    async () => {
      const response = await post("vm.show", { vm: "box" });
      expect(response.status).toBe(404);
      const op = response.headers.get("banger-op") ?? "";
      expect(await response.json()).toEqual({
        error: {
          code: "VM_NOT_FOUND",
          message: "no VM is named box",
          details: { ref: "box" },
          hint: "banger vm list -a",
          op,
        },
      });
      expect(logged.join("\n")).toContain(op);
    },
  );
});

test("progress is streamed as it comes, the result last", async () => {
  await behaving(
    async (name, context) => {
      context.progress({ stage: "disk", message: "making disks", done: 1, total: 2 });
      context.data(Buffer.from("console text"));
      return sampleOf(METHODS[name].output);
    },
    async () => {
      const seen = await events(await post("vm.create", { start: true }));
      expect(seen.map(({ event }) => event)).toContain("operation");
      expect(seen.at(-1)?.event).toBe("result");
      expect(seen).toContainEqual({ event: "progress", stage: "disk", message: "making disks", done: 1, total: 2 });
    },
  );
});

/** Begins vm.create with work that ends only when it is cancelled; resolves with its id and how to hang up. */
async function beginEndless(headers: Readonly<Record<string, string>>) {
  const hangUp = new AbortController();
  const response = await fetch("http://banger/v1/vm.create", {
    method: "POST",
    unix: socket,
    headers,
    body: JSON.stringify({ start: true }),
    signal: hangUp.signal,
  });
  return { op: response.headers.get("banger-op") ?? "", hangUp };
}

const endless = async (_: MethodName, context: OperationContext): Promise<unknown> =>
  await new Promise((_resolve, reject) => {
    context.signal.addEventListener("abort", () => reject(new BangerError("CANCELLED", "cancelled")));
  });
const stateOf = (op: string): string | undefined => operations.list().find(({ id }) => id === op)?.state;

async function until(check: () => boolean): Promise<void> {
  const deadline = Date.now() + 20_000;
  while (!check()) {
    if (Date.now() > deadline) throw new Error("not within 20 s");
    await Bun.sleep(5);
  }
}

test("a client that hangs up cancels its operation", async () => {
  await behaving(endless, async () => {
    const { op, hangUp } = await beginEndless({});
    expect(stateOf(op)).toBe("running");
    hangUp.abort();
    await until(() => stateOf(op) === "cancelled");
  });
});

test("a detached operation outlives its client, is watched by another and cancelled by a third", async () => {
  await behaving(endless, async () => {
    const { op, hangUp } = await beginEndless({ "banger-detach": "1" });
    hangUp.abort();
    const watched = await post("operation.watch", { id: op });
    expect(stateOf(op)).toBe("running");
    operations.cancel(op);
    const seen = await events(watched);
    expect(seen[0]).toEqual({ event: "operation", id: op });
    expect(seen.at(-1)).toMatchObject({ event: "error", error: { code: "CANCELLED" } });
  });
});

test("operation.watch of nothing is an error", async () => {
  expect(await postError("operation.watch", { id: "op-ffffffffffff" })).toMatchObject({
    status: 404,
    code: "OPERATION_NOT_FOUND",
  });
});

test("a second server on the same socket is refused while the first one answers", async () => {
  await expect(serveApi({ path: socket }, {} as unknown as Handlers, operations, log)).rejects.toMatchObject({
    code: "ALREADY_EXISTS",
  });
  expect((await post("vm.list", { all: true })).status).toBe(200);
});
