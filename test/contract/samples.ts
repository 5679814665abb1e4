/** A value for every schema of the contracts, the same every time: what golden requests and answers are made of. */

import type * as v from "valibot";
import { type JsonSchema, toJsonSchema } from "../../scripts/json-schema.ts";

/** A string for each pattern, found by trying: a new pattern that none of these fits needs a line here. */
const STRINGS: readonly string[] = [
  "dev-box",
  "op-0123456789ab",
  "0123456789ab",
  "192.168.7.2",
  "42",
  "/usr/lib/banger",
  "br-fc",
];

/** Every field filled in, optional ones too. */
export function sampleOf(schema: v.GenericSchema): unknown {
  return sample(toJsonSchema(schema));
}

function sample(schema: JsonSchema): unknown {
  if ("const" in schema) return schema["const"];
  if (Array.isArray(schema["enum"])) return schema["enum"][0];
  const choices = schema["oneOf"] ?? schema["anyOf"];
  if (Array.isArray(choices)) return sample((choices as JsonSchema[])[0] ?? {});
  if (typeof schema["$ref"] === "string") return { code: "VM_NOT_FOUND", message: "no VM is named dev-box" };
  switch (schema["type"]) {
    case "boolean":
      return true;
    case "integer":
    case "number":
      return schema["minimum"] ?? 7;
    case "array":
      return [sample(schema["items"] as JsonSchema)];
    case "object":
      return Object.fromEntries(
        Object.entries((schema["properties"] ?? {}) as Record<string, JsonSchema>).map(([key, property]) => [
          key,
          sample(property),
        ]),
      );
    case "string": {
      if (schema["format"] === "date-time") return "2026-11-24T10:00:00.000Z";
      if (schema["format"] === "ipv4") return "192.168.7.2";
      if (schema["format"] === "ipv6") return "fd00::2";
      if (schema["contentEncoding"] === "base64") return "aGVsbG8K";
      if (typeof schema["pattern"] !== "string") return "text";
      const pattern = new RegExp(schema["pattern"]);
      const found = STRINGS.find((text) => pattern.test(text));
      if (found === undefined) throw new Error(`no sample string fits /${pattern.source}/; add one`);
      return found;
    }
    default:
      return {};
  }
}
