import { usageError } from "../line/usage.ts";
import { defineCommand } from "../line/command.ts";
import { ERROR_TABLE, type ErrorCode } from "../../shared/errors.ts";
import { suggest } from "../../shared/text/suggest.ts";

const CODES = Object.keys(ERROR_TABLE) as ErrorCode[];

function rowOf(code: ErrorCode): {
  readonly code: ErrorCode;
  readonly exit: number;
  readonly summary: string;
  readonly hint: string | null;
} {
  const row: { readonly exit: number; readonly summary: string; readonly hint?: string } = ERROR_TABLE[code];
  return { code, exit: row.exit, summary: row.summary, hint: row.hint ?? null };
}

export const command = defineCommand({
  args: {
    code: {
      type: "positional",
      required: false,
      description: "An error code, as printed in brackets; default: all codes.",
    },
  },
  json: true,
  examples: [
    ["banger explain GUEST_NOT_READY", "explains the code, its exit status and what to do next"],
    ["banger explain", "lists every code"],
  ],
  run: async ({ args, json, out }) => {
    if (args.code === undefined) {
      if (json) return out.json(CODES.map(rowOf));
      return out.table(
        ["CODE", "EXIT", "MEANING"],
        CODES.map(rowOf).map(({ code, exit, summary }) => [code, String(exit), summary]),
      );
    }
    const typed = args.code.toUpperCase().replaceAll("-", "_");
    const code = CODES.find((one) => one === typed);
    if (code === undefined) {
      const near = suggest(typed, CODES);
      throw usageError(
        `there is no error code ${JSON.stringify(args.code)}${near === null ? "" : `; did you mean ${near}?`}`,
        ["explain"],
      );
    }
    const row = rowOf(code);
    if (json) return out.json(row);
    out.line(`${row.code} (exit status ${row.exit})`);
    out.line(row.summary);
    if (row.hint !== null) out.line(`try: ${row.hint}`);
  },
});
