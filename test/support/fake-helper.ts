/** A root helper that only pretends: real frames on a real unix socket, answers from a table of functions. */

import { createServer, type Server } from "node:net";
import { BangerError, toBangerError } from "../../src/shared/errors.ts";
import { encodeFrame, FrameDecoder } from "../../src/shared/contract/frames.ts";
import {
  HELPER_VERBS,
  HelperRequest,
  type HelperOutputOf,
  type HelperParsedInputOf,
  type HelperVerbName,
} from "../../src/shared/contract/helper-api.ts";
import * as v from "valibot";

export type FakeVerbs = {
  readonly [V in HelperVerbName]?: (input: HelperParsedInputOf<V>) => HelperOutputOf<V> | Promise<HelperOutputOf<V>>;
};

export interface FakeHelper extends AsyncDisposable {
  /** What was asked, in order. Fields of the requests are checked by the contract's own schemas. */
  readonly calls: { readonly verb: string; readonly input: unknown; readonly op: string | null }[];
  /** Closes this many connections after their request, without an answer. */
  hangUps: number;
}

export async function startFakeHelper(path: string, verbs: FakeVerbs): Promise<FakeHelper> {
  const calls: FakeHelper["calls"] = [];
  const answer = async (request: unknown): Promise<unknown> => {
    const { method, params, op } = v.parse(HelperRequest, request);
    if (!Object.hasOwn(HELPER_VERBS, method)) throw new BangerError("INVALID_REQUEST", `no verb ${method}`);
    const verb = method as HelperVerbName;
    const input = v.parse(HELPER_VERBS[verb].input as v.GenericSchema, params);
    calls.push({ verb, input, op });
    const act = verbs[verb] as ((input: unknown) => unknown) | undefined;
    if (act === undefined) throw new BangerError("HELPER_REFUSED", `the fake has no ${verb}`);
    return await act(input);
  };
  const server: Server = createServer((socket) => {
    const decoder = new FrameDecoder();
    socket.on("error", () => undefined);
    socket.on("data", (chunk: Buffer) => {
      const whole = decoder.push(chunk);
      if (whole === undefined) return;
      void answer(whole.value)
        .then(
          (result) => ({ result }),
          (thrown: unknown) => {
            const { code, message } = toBangerError(thrown);
            return { error: { code, message } };
          },
        )
        .then((body) => {
          if (fake.hangUps > 0) {
            fake.hangUps--;
            socket.destroy();
          } else socket.end(encodeFrame(body));
        });
    });
  });
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(path, resolve);
  });
  const fake: FakeHelper = {
    calls,
    hangUps: 0,
    [Symbol.asyncDispose]: async () => {
      await new Promise<void>((resolve) => server.close(() => resolve()));
    },
  };
  return fake;
}
