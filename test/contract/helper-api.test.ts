/** The root helper's verbs: field names pinned, unknown keys and envelopes refused. What a verb does is tested in test/root. */

import { expect, test } from "bun:test";
import * as v from "valibot";
import { encodeFrame, FrameDecoder } from "../../src/shared/contract/frames.ts";
import {
  HELPER_VERBS,
  HELPER_VERSION,
  HelperRequest,
  type HelperVerbName,
} from "../../src/shared/contract/helper-api.ts";
import { sampleOf } from "./samples.ts";

const NAMES = Object.keys(HELPER_VERBS) as HelperVerbName[];

test.each(NAMES)("%s: the golden request and answer", (name) => {
  const { input, output, errors } = HELPER_VERBS[name];
  const request = { v: HELPER_VERSION, method: name, params: sampleOf(input), op: "op-0123456789ab" };
  expect(v.safeParse(HelperRequest, request).success).toBe(true);
  const answer = { result: sampleOf(output) };
  expect(v.safeParse(output as v.GenericSchema, answer.result).success).toBe(true);
  expect(new FrameDecoder().push(encodeFrame(request))).toEqual({ value: request });
  expect({ request, answer, errors: [...errors] }).toMatchSnapshot();
});

test.each(NAMES)("%s: unknown and missing keys are refused", (name) => {
  const input = HELPER_VERBS[name].input as v.GenericSchema;
  const good = sampleOf(HELPER_VERBS[name].input) as Record<string, unknown>;
  expect(v.safeParse(input, good).success).toBe(true);
  expect(v.safeParse(input, { ...good, surplus: 1 }).success).toBe(false);
  for (const key of Object.keys(good)) {
    const { [key]: _, ...rest } = good;
    expect({ key, passes: v.safeParse(input, rest).success }).toEqual({ key, passes: false });
    expect({ key, passes: v.safeParse(input, { ...good, [key]: { $: 1 } }).success }).toEqual({ key, passes: false });
  }
});

test.each([
  ["another version", { v: HELPER_VERSION + 1 }],
  ["a version as text", { v: String(HELPER_VERSION) }],
  ["params that are a list", { params: [] }],
  ["no params", { params: null }],
  ["a method that is no text", { method: 7 }],
  ["a very long method", { method: "x".repeat(65) }],
  ["an operation id of another form", { op: "../../etc" }],
  ["one key more", { uid: 0 }],
])("an envelope with %s is refused", (_, change) => {
  const good = { v: HELPER_VERSION, method: "priv.ping", params: {}, op: null };
  expect(v.safeParse(HelperRequest, good).success).toBe(true);
  expect(v.safeParse(HelperRequest, { ...good, ...change }).success).toBe(false);
});
