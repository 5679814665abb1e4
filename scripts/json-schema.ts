/**
 * Converts the contracts' Valibot schemas to JSON Schema (2020-12) with `@valibot/to-json-schema`. This file adds
 * banger's names for shared records, and types in words for the reference pages, which no library provides.
 */

import { type ConversionConfig, toJsonSchema as convert, toJsonSchemaDefs } from "@valibot/to-json-schema";
import type * as v from "valibot";

export type JsonSchema = { readonly [key: string]: unknown };

export interface Named {
  readonly name: string;
  readonly schema: v.GenericSchema;
}

const reference = (name: string): string => `#/components/schemas/${name}`;

const CONFIG: ConversionConfig = {
  target: "draft-2020-12",
  // A brand is for the compiler. The method's page documents what a check rejects.
  ignoreActions: ["brand", "check"],
  overrideRef: ({ referenceId }) => reference(referenceId),
  overrideSchema: ({ valibotSchema, jsonSchema }) => {
    if (valibotSchema.type === "custom") return describeCustom((valibotSchema as { message?: unknown }).message);
    // The library writes an empty list if nothing is required.
    const { required, ...rest } = jsonSchema;
    return required?.length === 0 ? rest : null;
  },
};

/** A custom schema is opaque to JSON Schema: its message describes it. */
function describeCustom(message: unknown): { $ref: string } | { description: string } {
  if (typeof message !== "string") throw new Error("a custom schema needs a message that describes it");
  return message === "an error document" ? { $ref: reference("ErrorDocument") } : { description: message };
}

function definitionsOf(named: readonly Named[]): NonNullable<ConversionConfig["definitions"]> {
  return Object.fromEntries(named.map(({ name, schema }) => [name, schema]));
}

/**
 * Converts a schema; those in `named` become references.
 * @throws Error if JSON Schema can't express a schema or a check, so that no page says less than the code does
 */
export function toJsonSchema(schema: v.GenericSchema, named: readonly Named[] = []): JsonSchema {
  const { $schema: _, $defs: __, ...converted } = convert(schema, { ...CONFIG, definitions: definitionsOf(named) });
  return converted;
}

/** Converts the named schemas in full, each with references to the others. */
export function defineJsonSchemas(named: readonly Named[]): Readonly<Record<string, JsonSchema>> {
  const converted = toJsonSchemaDefs(definitionsOf(named), CONFIG);
  return Object.fromEntries(Object.entries(converted).map(([name, schema]) => [name, { ...schema }]));
}

/** Describes a type in Markdown, for people: `integer 1 to 64`, `string or null`, `list of VmRecord`. */
export function describeType(schema: JsonSchema): string {
  if (typeof schema["$ref"] === "string") return schema["$ref"].replace("#/components/schemas/", "");
  // A variant is oneOf, any other union anyOf.
  const choices = schema["oneOf"] ?? schema["anyOf"];
  if (Array.isArray(choices)) return (choices as JsonSchema[]).map(describeType).join(" or ");
  if (Array.isArray(schema["enum"])) return schema["enum"].map((value) => JSON.stringify(value)).join(", ");
  if ("const" in schema) return JSON.stringify(schema["const"]);
  const range = (low: string, high: string): string => {
    // JSON's limit for exact integers is not a limit of this field.
    const [from, to] = [schema[low], schema[high]].map((bound) =>
      Math.abs(Number(bound)) === Number.MAX_SAFE_INTEGER ? undefined : bound,
    );
    if (from === undefined && to === undefined) return "";
    if (to === undefined) return ` from ${String(from)}`;
    return from === undefined ? ` to ${String(to)}` : ` ${String(from)} to ${String(to)}`;
  };
  switch (schema["type"]) {
    case "integer":
    case "number":
      return `${schema["type"]}${range("minimum", "maximum")}`;
    case "string": {
      if (typeof schema["pattern"] === "string") return `string \`/${schema["pattern"]}/\``;
      if (schema["format"] === "date-time") return "RFC 3339 time";
      if (typeof schema["format"] === "string") return `${schema["format"]} address`;
      const length = range("minLength", "maxLength");
      return `string${length === "" ? "" : ` of${length} characters`}`;
    }
    case "array": {
      const items = schema["items"] as JsonSchema;
      const length = range("minItems", "maxItems");
      const plain = describeType(items);
      return `${items["type"] === "object" ? "list of objects" : `list of ${plain}`}${length === "" ? "" : `,${length} of them`}`;
    }
    case "boolean":
    case "object":
    case "null":
      return schema["type"];
    default:
      return typeof schema["description"] === "string" ? schema["description"] : "anything";
  }
}
