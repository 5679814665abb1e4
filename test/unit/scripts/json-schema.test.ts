import { expect, test } from "bun:test";
import * as v from "valibot";
import { defineJsonSchemas, describeType, toJsonSchema } from "../../../scripts/json-schema.ts";

test("objects are strict, with what is required", () => {
  const schema = v.strictObject({
    name: v.pipe(v.string(), v.regex(/^[a-z]+$/)),
    size: v.optional(v.pipe(v.number(), v.safeInteger(), v.minValue(1), v.maxValue(9)), 3),
    when: v.nullable(v.pipe(v.string(), v.isoTimestamp())),
    kinds: v.pipe(v.array(v.picklist(["a", "b"])), v.minLength(1), v.maxLength(4)),
  });
  expect(toJsonSchema(schema)).toEqual({
    type: "object",
    properties: {
      name: { type: "string", pattern: "^[a-z]+$" },
      size: { type: "integer", minimum: 1, maximum: 9, default: 3 },
      when: { anyOf: [{ type: "string", format: "date-time" }, { type: "null" }] },
      kinds: { type: "array", items: { type: "string", enum: ["a", "b"] }, minItems: 1, maxItems: 4 },
    },
    required: ["name", "when", "kinds"],
    additionalProperties: false,
  });
});

test("named schemas are references, defined once", () => {
  const Inner = v.strictObject({ id: v.string() });
  const Outer = v.strictObject({ inner: Inner });
  const named = [
    { name: "Inner", schema: Inner },
    { name: "Outer", schema: Outer },
  ];
  expect(toJsonSchema(v.array(Outer), named)).toEqual({ type: "array", items: { $ref: "#/components/schemas/Outer" } });
  expect(defineJsonSchemas(named)).toMatchObject({
    Inner: { type: "object" },
    Outer: { properties: { inner: { $ref: "#/components/schemas/Inner" } } },
  });
});

test("an object of optional fields has no list of required ones", () => {
  expect(toJsonSchema(v.strictObject({ all: v.optional(v.boolean()) }))).toEqual({
    type: "object",
    properties: { all: { type: "boolean" } },
    additionalProperties: false,
  });
});

test("brands and checks change nothing, a custom schema is described by its message", () => {
  const plain = v.pipe(v.string(), v.minLength(1));
  const branded = v.pipe(
    plain,
    v.brand("Id"),
    v.check(() => true),
  );
  expect(toJsonSchema(branded)).toEqual(toJsonSchema(plain));
  expect(toJsonSchema(v.custom<object>(() => true, "an error document"))).toEqual({
    $ref: "#/components/schemas/ErrorDocument",
  });
  expect(toJsonSchema(v.custom<string>(() => true, "a path"))).toEqual({ description: "a path" });
});

test("what JSON Schema can't express is an error, not an empty schema", () => {
  expect(() => toJsonSchema(v.date())).toThrow("date");
  expect(() => toJsonSchema(v.pipe(v.string(), v.trim()))).toThrow("trim");
  expect(() => toJsonSchema(v.pipe(v.string(), v.regex(/a/i)))).toThrow("flags");
  expect(() => toJsonSchema(v.custom<string>(() => true))).toThrow("message");
});

test("types read as a person would say them", () => {
  const said = (schema: v.GenericSchema): string => describeType(toJsonSchema(schema));
  expect(said(v.pipe(v.number(), v.safeInteger(), v.minValue(1), v.maxValue(64)))).toBe("integer 1 to 64");
  expect(said(v.pipe(v.number(), v.minValue(1)))).toBe("number from 1");
  expect(said(v.pipe(v.number(), v.safeInteger(), v.minValue(0)))).toBe("integer from 0");
  expect(said(v.pipe(v.number(), v.safeInteger()))).toBe("integer");
  expect(said(v.nullable(v.string()))).toBe("string or null");
  expect(said(v.array(v.boolean()))).toBe("list of boolean");
  expect(said(v.pipe(v.string(), v.minLength(1), v.maxLength(63)))).toBe("string of 1 to 63 characters");
  // In a code span: outside of one, `[a-z](?:x)` is a link.
  expect(said(v.pipe(v.string(), v.regex(/^[a-z](?:x)?$/)))).toBe("string `/^[a-z](?:x)?$/`");
  expect(said(v.picklist(["kvm", "tcg"]))).toBe('"kvm", "tcg"');
});

test("a tagged union is one of its kinds", () => {
  const Ssh = v.strictObject({ kind: v.literal("ssh") });
  const Agent = v.strictObject({ kind: v.literal("agent") });
  const named = [
    { name: "Ssh", schema: Ssh },
    { name: "Agent", schema: Agent },
  ];
  const schema = toJsonSchema(v.variant("kind", [Ssh, Agent]), named);
  expect(schema).toEqual({ oneOf: [{ $ref: "#/components/schemas/Ssh" }, { $ref: "#/components/schemas/Agent" }] });
  expect(describeType(schema)).toBe("Ssh or Agent");
});
