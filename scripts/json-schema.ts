/** Valibot schemas of the contracts as JSON Schema (2020-12): the kinds that the contracts use, and no others. */

import type * as v from "valibot";

export type JsonSchema = { readonly [key: string]: unknown };

interface Node {
  readonly type: string;
  readonly pipe?: readonly Node[];
  readonly entries?: Readonly<Record<string, Node>>;
  readonly item?: Node;
  readonly wrapped?: Node;
  readonly options?: readonly unknown[];
  readonly literal?: unknown;
  readonly default?: unknown;
  readonly requirement?: unknown;
  readonly message?: unknown;
}

export interface Named {
  readonly name: string;
  readonly schema: v.GenericSchema;
}

/**
 * Converts a schema; the ones in `named` become references.
 * @throws Error for a kind of schema or check that this converter doesn't know: teach it, so that no page says less than the code does
 */
export function toJsonSchema(schema: v.GenericSchema, named: readonly Named[] = []): JsonSchema {
  return convert(
    schema as unknown as Node,
    new Map(named.map((entry) => [entry.schema as unknown as Node, entry.name])),
  );
}

/** A named schema in full, with references to the others. */
export function defineJsonSchema(schema: v.GenericSchema, named: readonly Named[]): JsonSchema {
  return toJsonSchema(
    schema,
    named.filter((entry) => entry.schema !== schema),
  );
}

function convert(node: Node, names: ReadonlyMap<Node, string>): JsonSchema {
  const name = names.get(node);
  if (name !== undefined) return { $ref: `#/components/schemas/${name}` };
  const [base, ...actions] = node.pipe ?? [node];
  if (base !== node && base !== undefined) {
    return Object.assign({}, convert(base, names), ...actions.map((action) => convertAction(base.type, action)));
  }
  switch (node.type) {
    case "string":
    case "number":
    case "boolean":
      return { type: node.type };
    case "strict_object": {
      const entries = Object.entries(node.entries ?? {});
      const required = entries.filter(([, entry]) => entry.type !== "optional").map(([key]) => key);
      return {
        type: "object",
        properties: Object.fromEntries(entries.map(([key, entry]) => [key, convert(entry, names)])),
        ...(required.length === 0 ? {} : { required }),
        additionalProperties: false,
      };
    }
    case "array":
      return { type: "array", items: convert(inner(node.item), names) };
    case "picklist":
      return { enum: node.options };
    case "literal":
      return { const: node.literal };
    case "nullable":
      return { anyOf: [convert(inner(node.wrapped), names), { type: "null" }] };
    case "optional": {
      const wrapped = convert(inner(node.wrapped), names);
      return node.default === undefined ? wrapped : { ...wrapped, default: node.default };
    }
    case "unknown":
      return {};
    case "custom":
      if (typeof node.message !== "string") throw new Error("a custom schema needs a message that says what it is");
      return node.message === "an error document"
        ? { $ref: "#/components/schemas/ErrorDocument" }
        : { description: node.message };
    default:
      throw new Error(`json-schema.ts knows no schema of type ${node.type}`);
  }
}

function inner(node: Node | undefined): Node {
  if (node === undefined) throw new Error("a schema without what it wraps");
  return node;
}

function convertAction(base: string, { type, requirement }: Node): JsonSchema {
  switch (type) {
    case "regex":
      return { pattern: (requirement as RegExp).source };
    case "min_length":
      return { [base === "array" ? "minItems" : "minLength"]: requirement };
    case "max_length":
      return { [base === "array" ? "maxItems" : "maxLength"]: requirement };
    case "min_value":
      return { minimum: requirement };
    case "max_value":
      return { maximum: requirement };
    case "safe_integer":
      return { type: "integer" };
    case "integer":
      return { type: "integer" };
    case "ipv4":
    case "ipv6":
      return { format: type };
    case "iso_timestamp":
      return { format: "date-time" };
    case "base64":
      return { contentEncoding: "base64" };
    // A brand is for the compiler, a check is said by the page that documents it.
    case "brand":
    case "check":
      return {};
    default:
      throw new Error(`json-schema.ts knows no check of type ${type}`);
  }
}

/** A type as a person reads it: `integer 1…64`, `string, null`, `VmRecord[]`. */
export function describeType(schema: JsonSchema): string {
  if (typeof schema["$ref"] === "string") return schema["$ref"].replace("#/components/schemas/", "");
  if (Array.isArray(schema["anyOf"])) return (schema["anyOf"] as JsonSchema[]).map(describeType).join(" or ");
  if (Array.isArray(schema["enum"])) return schema["enum"].map((value) => JSON.stringify(value)).join(", ");
  if ("const" in schema) return JSON.stringify(schema["const"]);
  const range = (low: string, high: string): string => {
    const [from, to] = [schema[low], schema[high]];
    if (from === undefined && to === undefined) return "";
    if (to === undefined) return ` from ${String(from)}`;
    return from === undefined ? ` to ${String(to)}` : ` ${String(from)} to ${String(to)}`;
  };
  switch (schema["type"]) {
    case "integer":
    case "number":
      return `${schema["type"]}${range("minimum", "maximum")}`;
    case "string": {
      if (typeof schema["pattern"] === "string") return `string /${schema["pattern"]}/`;
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
