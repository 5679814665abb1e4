/**
 * Mutated and random requests against the helper's dispatcher and socket. The verbs keep their schemas and gates and
 * only record that they would have acted: nothing here touches the host.
 */

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdtemp, rm } from "node:fs/promises";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import * as v from "valibot";
import { BangerError } from "../../../src/shared/errors.ts";
import { encodeFrame, FrameDecoder } from "../../../src/shared/contract/frames.ts";
import { HELPER_VERBS, HELPER_VERSION, type HelperVerbName } from "../../../src/shared/contract/helper-api.ts";
import { systemPaths } from "../../../src/shared/places/paths.ts";
import { createDispatch, type Verbs } from "../../../src/helper/dispatch.ts";
import type { Gate } from "../../../src/helper/gates.ts";
import { createHelperServer, type HelperServer } from "../../../src/helper/server.ts";
import { VERBS } from "../../../src/helper/verbs/index.ts";
import { GOOD_INPUTS } from "../../support/helper-inputs.ts";

const names = Object.keys(HELPER_VERBS) as HelperVerbName[];
const acted: { name: HelperVerbName; input: unknown }[] = [];
const recording = Object.fromEntries(
  names.map((name) => [
    name,
    {
      ...VERBS[name],
      run: (input: unknown) => {
        acted.push({ name, input });
        throw new BangerError("FAILED", "recorded");
      },
    },
  ]),
) as unknown as Verbs;

const dispatch = createDispatch(
  {
    paths: systemPaths("/nonexistent"),
    install: { owner: { uid: 1000, gid: 1000, name: "dev" }, vm_ids: { first: 200_000, count: 10 } },
    cgroupRoot: "/nonexistent",
  },
  recording,
);

/** Values that have broken parsers, shells, paths and arithmetic before. */
const odd = fc.oneof(
  fc.jsonValue(),
  fc.constantFrom<unknown>(
    "../../../etc/shadow",
    "/dev/sda1",
    "eth0",
    "lo",
    "br-fc;reboot",
    "br-fc\n",
    "tap-fc-\0",
    "$(id)",
    "-D",
    "--help",
    "172.16.0.1/0",
    "0x7f.1",
    "fc-rootfs-",
    -1,
    0,
    1e308,
    2 ** 53,
    null,
    true,
    [],
    {},
    { __proto__: 1 },
    "x".repeat(5000),
    "\ud800",
  ),
);

type Mutation = (value: Record<string, unknown>) => Record<string, unknown>;
const mutation: fc.Arbitrary<Mutation> = fc.oneof(
  fc.tuple(fc.nat(), odd).map(([index, value]): Mutation => (object) => {
    const keys = Object.keys(object);
    const key = keys[index % Math.max(1, keys.length)];
    return key === undefined ? object : { ...object, [key]: value };
  }),
  fc.nat().map((index): Mutation => (object) => {
    const keys = Object.keys(object);
    const gone = keys[index % Math.max(1, keys.length)];
    return Object.fromEntries(Object.entries(object).filter(([key]) => key !== gone));
  }),
  fc
    .tuple(fc.oneof(fc.string(), fc.constantFrom("uid", "env", "argv", "__proto__", "constructor")), odd)
    .map(([key, value]): Mutation => (object) => ({ ...object, [key]: value })),
  fc.tuple(fc.nat(), fc.nat(), fc.string({ maxLength: 2 })).map(([index, at, insert]): Mutation => (object) => {
    const keys = Object.keys(object).filter((key) => typeof object[key] === "string");
    const key = keys[index % Math.max(1, keys.length)];
    if (key === undefined) return object;
    const text = String(object[key]);
    const cut = at % (text.length + 1);
    return { ...object, [key]: text.slice(0, cut) + insert + text.slice(cut + (at % 2)) };
  }),
);

const request = fc
  .record({
    name: fc.constantFrom(...names),
    inner: fc.array(mutation, { maxLength: 3 }),
    outer: fc.array(mutation, { maxLength: 1 }),
    plain: fc.boolean(),
  })
  .map(({ name, inner, outer, plain }) => {
    const params = inner.reduce<Record<string, unknown>>((value, mutate) => mutate(value), { ...GOOD_INPUTS[name] });
    const envelope: Record<string, unknown> = { v: HELPER_VERSION, method: name, params, op: null };
    return plain ? envelope : outer.reduce((value, mutate) => mutate(value), envelope);
  });

function isAnswer(answer: unknown): boolean {
  return v.safeParse(
    v.union([
      v.strictObject({ result: v.unknown() }),
      v.strictObject({ error: v.strictObject({ code: v.string(), message: v.string() }) }),
    ]),
    answer,
  ).success;
}

/** What acted must have satisfied schema and gates; checked anew, apart from the dispatcher. */
function checkActed(): void {
  for (const { name, input } of acted.splice(0)) {
    expect(v.safeParse(HELPER_VERBS[name].input as v.GenericSchema, input).success).toBe(true);
    for (const gate of VERBS[name].gates) expect((gate as Gate<unknown>).check(input)).toBeNull();
  }
}

describe("mutated requests", () => {
  test("each gets an answer, and only what schema and gates accept gets as far as acting", async () => {
    let accepted = 0;
    await fc.assert(
      fc.asyncProperty(request, async (value) => {
        const { answer, outcome } = await dispatch(value);
        expect(isAnswer(answer)).toBe(true);
        expect(outcome).not.toBe("INTERNAL");
        accepted += acted.length;
        checkActed();
      }),
      { numRuns: 5000 },
    );
    // A fuzzer whose every request is refused at the door tests the door only.
    expect(accepted).toBeGreaterThan(100);
  });

  test("any JSON at all gets an answer that is an error", async () => {
    await fc.assert(
      fc.asyncProperty(fc.jsonValue(), async (value) => {
        expect((await dispatch(value)).answer).toMatchObject({ error: { code: "INVALID_REQUEST" } });
      }),
    );
  });
});

describe("the socket", () => {
  let directory = "";
  let helper: HelperServer;
  const lines: Readonly<Record<string, unknown>>[] = [];
  const path = (): string => join(directory, "s");

  beforeAll(async () => {
    directory = await mkdtemp(join(tmpdir(), "banger-helper-"));
    helper = createHelperServer({
      ownerUid: process.getuid?.() ?? -1,
      dispatch,
      log: (line) => lines.push(line),
      requestTimeoutMs: 60_000,
    });
    await new Promise<void>((resolve) => helper.server.listen(path(), resolve));
  });
  afterAll(async () => {
    await helper.close();
    await rm(directory, { recursive: true });
  });

  /** Sends chunks, then half-closes; all that comes back. */
  async function send(chunks: readonly Uint8Array[]): Promise<Uint8Array> {
    return await new Promise((resolve, reject) => {
      const received: Uint8Array[] = [];
      const socket = connect({ path: path(), allowHalfOpen: true });
      socket.on("data", (chunk: Uint8Array) => received.push(chunk));
      socket.on("close", () => resolve(Buffer.concat(received)));
      // The server may close while we still write; what it said before counts.
      socket.on("error", (error: NodeJS.ErrnoException) => {
        if (error.code !== "EPIPE" && error.code !== "ECONNRESET") reject(error);
      });
      for (const chunk of chunks) socket.write(chunk);
      socket.end();
    });
  }

  const split = (bytes: Uint8Array, cuts: readonly number[]): readonly Uint8Array[] => {
    const chunks: Uint8Array[] = [];
    let at = 0;
    for (const cut of cuts) {
      chunks.push(bytes.subarray(at, at + cut));
      at += cut;
    }
    chunks.push(bytes.subarray(at));
    return chunks.filter(({ length }) => length > 0);
  };

  test("mutated requests in any chunks get exactly one frame", async () => {
    await fc.assert(
      fc.asyncProperty(request, fc.array(fc.integer({ min: 1, max: 40 }), { maxLength: 4 }), async (value, cuts) => {
        lines.length = 0;
        const received = await send(split(encodeFrame(value), cuts));
        const frame = new FrameDecoder().push(received);
        expect(isAnswer(frame?.value)).toBe(true);
        expect(lines).toHaveLength(1);
        checkActed();
      }),
      { numRuns: 300 },
    );
  });

  test("random bytes never act; whatever comes back is one error", async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.oneof(
          fc.uint8Array({ maxLength: 200 }),
          // A plausible header, then anything.
          fc.uint8Array({ maxLength: 120 }).map((tail) => new Uint8Array([0, 0, 0, tail.length, ...tail])),
          fc.uint8Array({ maxLength: 120 }).map((tail) => new Uint8Array([0, 0, 0, tail.length + 9, ...tail])),
        ),
        async (bytes) => {
          lines.length = 0;
          const received = await send([bytes]);
          if (received.length > 0) {
            expect(new FrameDecoder().push(received)?.value).toMatchObject({ error: { code: "INVALID_REQUEST" } });
          }
          expect(acted).toHaveLength(0);
          expect(lines).toHaveLength(1);
        },
      ),
      { numRuns: 300 },
    );
  });
});
