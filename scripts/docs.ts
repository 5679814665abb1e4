/**
 * `bun run docs [--check]`: writes docs/reference from the tables in the code. With `--check` it writes nothing and
 * fails if a page differs from the code.
 */

import { mkdir, writeFile } from "node:fs/promises";
import { dirname, join, resolve } from "node:path";
import { parseArgs } from "node:util";
import * as v from "valibot";
import type { Command } from "../src/cmd/line/command.ts";
import { commandHelp, groupHelp } from "../src/cmd/line/help.ts";
import { ROOT as COMMANDS } from "../src/cmd/commands/index.ts";
import { type Entry, type Group, isGroup } from "../src/cmd/line/command.ts";
import { renderSystemFiles } from "../src/cmd/system/units.ts";
import { verbTable } from "../src/helper/verb-table.ts";
import { parseInstallConfig } from "../src/shared/install-config.ts";
import { systemPaths } from "../src/shared/places/paths.ts";
import { CONFIG_KEYS } from "../src/shared/config.ts";
import { API_LEVEL, METHODS, MINIMUM_API_LEVEL } from "../src/shared/contract/owner-api.ts";
import { ExecResult } from "../src/shared/contract/exec-result.ts";
import { ERROR_TABLE } from "../src/shared/errors.ts";
import * as schemas from "../src/shared/contract/schemas.ts";
import { VERSION } from "../src/shared/version.ts";
import { renderAgentProtocol } from "./agent-page.ts";
import { defineJsonSchemas, describeType, type JsonSchema, type Named, toJsonSchema } from "./json-schema.ts";

const ROOT = resolve(import.meta.dir, "..");

export interface Page {
  /** Relative to the repository's root. */
  readonly path: string;
  readonly text: string;
}

const MADE_BY = "<!-- Made by `bun run docs` from the code. Change the code, not this page. -->";

interface MethodView {
  readonly name: string;
  readonly summary: string;
  readonly input: v.GenericSchema;
  readonly output: v.GenericSchema;
  readonly isStream: boolean;
  readonly errors: readonly string[];
}

const methods: readonly MethodView[] = Object.entries(METHODS).map(([name, method]) => ({
  name,
  summary: method.summary,
  input: method.input,
  output: method.output,
  isStream: "stream" in method && method.stream === true,
  errors: method.errors,
}));

/** Records and names that several methods share: the objects of schemas.ts, and the branded strings. */
const named: readonly Named[] = Object.entries(schemas)
  .filter(([, schema]) => typeof schema === "object" && schema !== null && "kind" in schema)
  .map(([name, schema]) => ({ name, schema: schema as v.GenericSchema }))
  // If one schema had two names, only one of them would be documented.
  .filter(({ schema }, index, all) => all.findIndex((other) => other.schema === schema) === index);

const ERROR_DOCUMENT: JsonSchema = {
  type: "object",
  properties: {
    code: { enum: Object.keys(ERROR_TABLE) },
    message: { type: "string" },
    details: { type: "object", additionalProperties: true },
    hint: { type: "string" },
    op: { type: "string" },
  },
  required: ["code", "message"],
  additionalProperties: false,
};

const cell = (text: string): string => text.replaceAll("|", "\\|").replaceAll("\n", " ");

function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  return [head, head.map(() => "---"), ...rows].map((row) => `| ${row.map(cell).join(" | ")} |`).join("\n");
}

function fieldTable(schema: JsonSchema): string {
  const properties = Object.entries((schema["properties"] ?? {}) as Record<string, JsonSchema>);
  const required = new Set((schema["required"] ?? []) as string[]);
  const rows = properties.flatMap(([key, property]) => fieldRows(key, property, required.has(key)));
  return table(["field", "type", ""], rows);
}

function fieldRows(key: string, property: JsonSchema, isRequired: boolean): (readonly string[])[] {
  const note = isRequired
    ? ""
    : property["default"] === undefined
      ? "optional"
      : `optional, ${JSON.stringify(property["default"])} if left out`;
  const own = [`\`${key}\``, describeType(property), note] as const;
  const nested = property["type"] === "array" ? (property["items"] as JsonSchema) : property;
  if (nested["type"] !== "object") return [own];
  const required = new Set((nested["required"] ?? []) as string[]);
  const separator = property["type"] === "array" ? "[]." : ".";
  return [
    own,
    ...Object.entries((nested["properties"] ?? {}) as Record<string, JsonSchema>).flatMap(([name, field]) =>
      fieldRows(`${key}${separator}${name}`, field, required.has(name)),
    ),
  ];
}

function renderInput(schema: JsonSchema): string {
  if (Object.keys((schema["properties"] ?? {}) as object).length === 0) return "Request: `{}`.";
  return `Request:\n\n${fieldTable(schema)}`;
}

function renderOutput(schema: JsonSchema): string {
  const body = schema["type"] === "array" ? (schema["items"] as JsonSchema) : schema;
  if (body["type"] !== "object") return `Result: ${describeType(schema)}.`;
  if (Object.keys((body["properties"] ?? {}) as object).length === 0) return "Result: `{}`.";
  return `Result${schema["type"] === "array" ? ", a list of" : ""}:\n\n${fieldTable(body)}`;
}

function renderApi(): string {
  const sections = methods.map(({ name, summary, input, output, isStream, errors }) =>
    [
      `### ${name}`,
      summary,
      ...(isStream ? ["Answers as a stream."] : []),
      renderInput(toJsonSchema(input, named)),
      renderOutput(toJsonSchema(output, named)),
      ...(errors.length === 0 ? [] : [`[Errors](errors.md): ${errors.map((code) => `\`${code}\``).join(", ")}.`]),
    ].join("\n\n"),
  );
  const records = Object.entries(defineJsonSchemas(named)).map(([name, defined]) => {
    return `### ${name}\n\n${defined["type"] === "object" ? fieldTable(defined) : `${describeType(defined)}.`}`;
  });
  return [
    MADE_BY,
    "# The owner daemon's API",
    `HTTP/1.1 on the daemon's unix socket, \`bangerd.sock\` in the directory that \`~/.local/state/banger/runtime\` links to
(\`/run/banger/bangerd.sock\` on an installed system). Only the owner of the daemon and root are let in; a request that
carries \`Origin\` or \`Referer\` is refused. This is API level ${API_LEVEL}; clients down to level
${MINIMUM_API_LEVEL} are served. Every answer carries \`banger-version\`, \`banger-api-level\` and
\`banger-op\`, the operation id, which the daemon also logs. [openapi.json](openapi.json) is the machine-readable form.`,
    '```sh\ncurl --unix-socket "$(readlink ~/.local/state/banger/runtime)/bangerd.sock" -X POST -d \'{"all":true}\' http://banger/v1/vm.list\n```',
    `A method is \`POST /v1/<method>\` with a JSON object of at most 1 MiB; a field that isn't listed is an error. The answer is
\`{"result": …}\` or \`{"error": {"code", "message", "details", "hint", "op"}}\`. Every method may also end in
\`INVALID_REQUEST\`, \`NOT_OWNER\`, \`FAILED\` and \`INTERNAL\`.`,
    `A method that answers as a stream sends \`application/x-ndjson\`: lines of \`{"event": "operation", "id"}\`, for a create
\`{"event": "spec", …}\` with the fields of ResolvedSpec, \`{"event": "progress", "stage", "message", "done"?, "total"?}\`,
\`{"event": "data", "data"}\`, and at last \`{"event": "result", "result"}\` or \`{"event": "error",
"error"}\`. Closing the connection cancels the work and undoes it, unless the request carried \`banger-detach: 1\`; then
\`operation.watch\` follows it and \`operation.cancel\` ends it.`,
    "## Methods",
    ...sections,
    "## Records",
    ...records,
  ].join("\n\n");
}

function renderOpenApi(): string {
  const reference = { $ref: "#/components/schemas/ErrorDocument" };
  const failure = {
    description: "The error.",
    content: {
      "application/json": {
        schema: { type: "object", properties: { error: reference }, required: ["error"], additionalProperties: false },
      },
    },
  };
  const document = {
    openapi: "3.1.0",
    info: {
      title: "banger owner API",
      version: VERSION,
      description: "HTTP on a unix socket; see api.md.",
      license: { name: "MIT", identifier: "MIT" },
    },
    servers: [{ url: "http://banger", description: "The host name is not looked at." }],
    paths: Object.fromEntries(
      methods.map(({ name, summary, input, output, isStream, errors }) => {
        const result = toJsonSchema(output, named);
        return [
          `/v1/${name}`,
          {
            post: {
              operationId: name,
              summary,
              tags: [name.split(".")[0]],
              requestBody: { required: true, content: { "application/json": { schema: toJsonSchema(input, named) } } },
              responses: {
                "200": isStream
                  ? {
                      description: "One event per line; the last one is the result or an error.",
                      content: { "application/x-ndjson": { schema: eventSchema(result, reference) } },
                    }
                  : {
                      description: "The result.",
                      content: {
                        "application/json": {
                          schema: {
                            type: "object",
                            properties: { result },
                            required: ["result"],
                            additionalProperties: false,
                          },
                        },
                      },
                    },
                default: failure,
              },
              ...(errors.length === 0 ? {} : { "x-error-codes": errors }),
            },
          },
        ];
      }),
    ),
    components: {
      schemas: {
        ...defineJsonSchemas(named),
        ErrorDocument: ERROR_DOCUMENT,
      },
    },
  };
  return `${JSON.stringify(document, null, 2)}\n`;
}

function eventSchema(result: JsonSchema, error: JsonSchema): JsonSchema {
  const event = (
    name: string,
    properties: Record<string, JsonSchema>,
    optional: readonly string[] = [],
  ): JsonSchema => ({
    type: "object",
    properties: { event: { const: name }, ...properties },
    required: ["event", ...Object.keys(properties).filter((key) => !optional.includes(key))],
    additionalProperties: false,
  });
  const string = { type: "string" };
  const number = { type: "number" };
  return {
    oneOf: [
      event("operation", { id: string }),
      event("spec", defineJsonSchemas(named)["ResolvedSpec"]?.["properties"] as Record<string, JsonSchema>),
      event("progress", { stage: string, message: string, done: number, total: number }, ["done", "total"]),
      event("data", { data: string }),
      event("result", { result }),
      event("error", { error }),
    ],
  };
}

function renderErrors(): string {
  const rows = Object.entries(ERROR_TABLE).map(([code, row]) => [
    `\`${code}\``,
    String(row.exit),
    row.summary,
    "hint" in row ? `\`${row.hint}\`` : "",
  ]);
  return [
    MADE_BY,
    "# Error codes and exit statuses",
    '`banger explain CODE` prints a row. With `--json` an error is `{"error": {"code", "message", "details", "hint", "op"}}` on stderr or stdout, as the command\'s page says. Scripts should check `code`, never the text.',
    table(["code", "exit status", "what it means", "next"], rows),
    `\`vm run -- CMD\`, \`vm exec\` and \`vm ssh -- CMD\` exit with the guest command's status: 0 is success, 126 means it can't be executed, 127 that it wasn't found, 128+n that signal n ended it.`,
  ].join("\n\n");
}

function renderConfig(): string {
  const rows = Object.entries(CONFIG_KEYS).map(([key, { value, rule, summary }]) => [
    `\`${key}\``,
    rule,
    describeDefault(key, value, rule),
    summary,
  ]);
  return [
    MADE_BY,
    "# Configuration",
    "`$XDG_CONFIG_HOME/banger/config.toml` (else `~/.config/banger/config.toml`). Every key is optional. An unknown key or a wrong value is an error that names the key. `banger config` prints the effective values and where each comes from. A key with a dot is in a table: `vm_defaults.vcpu` is `vcpu` under `[vm_defaults]`.",
    table(["key", "value", "default", "what it does"], rows),
  ].join("\n\n");
}

/** Formats a default as it would appear in the file. */
function describeDefault(key: string, value: unknown, rule: string): string {
  if (value === null) return key.startsWith("vm_defaults.") ? "decided by this host" : "none";
  if (rule.startsWith("a duration") && typeof value === "number" && value > 0) return `\`"${value / 1000}s"\``;
  return `\`${JSON.stringify(value)}\``;
}

/** Renders the help of every visible command, as `--help` prints it. Top-level short forms are only listed. */
async function renderCommands(): Promise<string> {
  const shown = (group: Group): (readonly [string, Entry | Group])[] =>
    Object.entries(group.commands).filter(([, node]) => node.hidden !== true);
  const short: string[] = [];
  const inGroups = new Set<Command>();
  for (const [, node] of shown(COMMANDS).flatMap(([, group]) => (isGroup(group) ? shown(group) : [])))
    if (!isGroup(node)) inGroups.add(await node.load());
  const sections: string[] = [];
  const walk = async (path: readonly string[], group: Group): Promise<void> => {
    sections.push(section(path, groupHelp(path, group)));
    for (const [name, node] of shown(group)) {
      if (isGroup(node)) {
        await walk([...path, name], node);
        continue;
      }
      const command = await node.load();
      if (path.length === 0 && inGroups.has(command)) short.push(name);
      else sections.push(section([...path, name], commandHelp([...path, name], command, node)));
    }
  };
  const section = (path: readonly string[], help: string): string =>
    `${path.length < 2 ? "##" : "###"} ${["banger", ...path].join(" ")}\n\n\`\`\`text\n${help.trimEnd()}\n\`\`\``;
  await walk([], COMMANDS);
  return [
    MADE_BY,
    "# Commands",
    `The \`--help\` text of each command. The short forms ${short.map((name) => `\`banger ${name}\``).join(", ")} are the commands of
\`banger vm\`. Exit statuses: [errors.md](errors.md).`,
    ...sections,
    "## Output of banger vm exec --json",
    `\`status\` is banger's own exit status, 124 after a timeout. \`signal\` names what ended the command. Times and memory are those of the
command and of the children that it waited for; they are null if the command ran over ssh because the guest's agent did not
answer. Of each output, \`data\` is the first MiB: text if it is UTF-8, otherwise base64, as \`encoding\` says. If the command
can't be executed, status 126 or 127, \`stderr\` says why. Any other failure prints an error document.`,
    fieldTable(toJsonSchema(ExecResult, [])),
  ].join("\n\n");
}

/** Replaces the text between a pair of markers. @throws Error if the page lacks them */
export function replaceBlock(page: string, name: string, body: string): string {
  const pattern = new RegExp(`(<!-- ${name}: [^\\n]*-->\\n)[\\s\\S]*?(<!-- /${name} -->)`);
  if (!pattern.test(page)) throw new Error(`the page has no block for ${name}`);
  return page.replace(pattern, (_, begin: string, end: string) => `${begin}\n${body}\n\n${end}`);
}

/** docs/privileges.md is written by hand; its tables come from the helper's gates and the units. */
async function renderPrivileges(): Promise<string> {
  const verbs = verbTable().map(({ verb, doc, gate, stops }) => [`\`${verb}\``, doc, gate, stops]);
  const helper = renderHelperUnit();
  const capabilities = /^CapabilityBoundingSet=(.+)$/m.exec(helper)?.[1]?.split(" ") ?? [];
  const page = await Bun.file(join(ROOT, "docs/privileges.md")).text();
  return replaceBlock(
    replaceBlock(page, "verbs", table(["action", "what it does", "what must be true", "attacks it prevents"], verbs)),
    "capabilities",
    capabilities.map((name) => `\`${name}\``).join(", "),
  );
}

function renderHelperUnit(): string {
  const config = parseInstallConfig(
    '[owner]\nuid = 1000\ngid = 1000\nname = "owner"\n[vm_ids]\nfirst = 300000\ncount = 4096\n',
  );
  const file = renderSystemFiles(config, systemPaths()).find(({ path }) => path.endsWith("/bangerd-root.service"));
  if (file === undefined) throw new Error("the system files contain no bangerd-root.service");
  return file.text;
}

/** Renders every generated page. */
export async function renderPages(): Promise<readonly Page[]> {
  const page = (name: string, text: string): Page => ({
    path: `docs/reference/${name}`,
    text: text.endsWith("\n") ? text : `${text}\n`,
  });
  return [
    page("api.md", renderApi()),
    page("openapi.json", renderOpenApi()),
    page("errors.md", renderErrors()),
    page("config.md", renderConfig()),
    page("agent-protocol.md", `${MADE_BY}\n\n${renderAgentProtocol(table)}\n`),
    page("commands.md", await renderCommands()),
    { path: "docs/privileges.md", text: await renderPrivileges() },
  ];
}

/** Lists the pages whose file differs from the generated text. */
export async function findDrift(root: string, pages: readonly Page[]): Promise<readonly string[]> {
  const drifted: string[] = [];
  for (const { path, text } of pages) {
    const file = Bun.file(join(root, path));
    if (!(await file.exists()) || (await file.text()) !== text) drifted.push(path);
  }
  return drifted;
}

if (import.meta.main) {
  const { values } = parseArgs({ options: { check: { type: "boolean", default: false } } });
  const pages = await renderPages();
  const drifted = await findDrift(ROOT, pages);
  if (values.check) {
    for (const path of drifted) console.error(`${path} says something else than the code; run: bun run docs`);
    process.exitCode = drifted.length === 0 ? 0 : 1;
  } else {
    for (const { path, text } of pages) {
      await mkdir(dirname(join(ROOT, path)), { recursive: true });
      await writeFile(join(ROOT, path), text);
    }
    console.log(drifted.length === 0 ? "nothing changed" : `wrote ${drifted.join(", ")}`);
  }
}
