/** The owner API spoken by hand, as another language would. */

import { join } from "node:path";
import type { Home } from "./banger.ts";

/** What a method answered, or the last event of a stream. Throws when the daemon goes away in between. */
export async function callApi(home: Home, method: string, input: unknown): Promise<Record<string, unknown>> {
  const response = await fetch(`http://banger/v1/${method}`, {
    method: "POST",
    unix: join(home.runtimeDir, "bangerd.sock"),
    headers: { "content-type": "application/json" },
    body: JSON.stringify(input),
  });
  const lines = (await response.text()).trim().split("\n");
  const last = JSON.parse(lines.at(-1) ?? "") as Record<string, unknown>;
  if (
    response.headers.get("content-type") === "application/x-ndjson" &&
    last["event"] !== "result" &&
    last["event"] !== "error"
  ) {
    throw new Error("the stream ended without a result");
  }
  return last;
}
