/** What `vm exec --json` prints: the daemon has no part in it. */

import * as v from "valibot";
import { VmName } from "./schemas.ts";

const Whole = v.pipe(v.number(), v.integer(), v.minValue(0));

/** The beginning of what a command wrote. */
const ExecOutput = v.strictObject({
  /** How `data` says it: as it is where it is UTF-8. */
  encoding: v.picklist(["utf-8", "base64"]),
  data: v.string(),
  /** More than 1 MiB was written; `data` is its beginning. */
  truncated: v.boolean(),
});
export type ExecOutput = v.InferOutput<typeof ExecOutput>;

export const ExecResult = v.strictObject({
  vm: VmName,
  /** banger's own exit status: the command's, 128+n after signal n, 124 after a timeout. */
  status: Whole,
  /** Name of the signal that ended the command, such as `SIGTERM`; null when none did. */
  signal: v.nullable(v.string()),
  timedOut: v.boolean(),
  wallMs: v.number(),
  /** CPU time of the command and of the children that it waited for; null when the command ran over ssh. */
  userMs: v.nullable(v.number()),
  systemMs: v.nullable(v.number()),
  /** The largest resident memory of one process; null when the command ran over ssh. */
  peakMemoryBytes: v.nullable(Whole),
  stdout: ExecOutput,
  stderr: ExecOutput,
});
export type ExecResult = v.InferOutput<typeof ExecResult>;
