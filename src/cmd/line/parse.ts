/**
 * Strict dispatch over citty's definitions. citty's own passes unknown flags, keeps the last of repeated ones, finds
 * `--help` after `--`, and knows `constructor` as a command (architecture.md, fact 13); here each of these is an error. Its types
 * describe the arguments; its code is not loaded, which would cost every command a third of its start-up time.
 */

import type { ArgDef, ArgsDef, ParsedArgs } from "citty";
import type { BangerError } from "../../shared/errors.ts";
import { suggest } from "../../shared/text/suggest.ts";
import { type Command, type Entry, findNode, type Group, isGroup, namesOf } from "./command.ts";
import { usageError } from "./usage.ts";

export interface Scanned {
  readonly args: ParsedArgs;
  readonly many: readonly string[];
  readonly lists: Readonly<Record<string, readonly string[]>>;
  readonly rest: readonly string[] | null;
  readonly json: boolean;
  readonly noColor: boolean;
}

/** What a command line asks for. `path` is the words typed to get there. */
export type Plan =
  | { readonly kind: "version"; readonly json: boolean }
  | { readonly kind: "group-help"; readonly path: readonly string[]; readonly group: Group }
  | {
      readonly kind: "command-help";
      readonly path: readonly string[];
      readonly command: Command;
      readonly entry: Entry;
    }
  | {
      readonly kind: "run";
      readonly path: readonly string[];
      readonly command: Command;
      readonly entry: Entry;
      readonly scanned: Scanned;
    };

const didYouMean = (word: string, candidates: readonly string[], prefix = ""): string => {
  const near = suggest(word, candidates);
  return near === null ? "" : `; did you mean ${prefix}${near}?`;
};

/** True when `--json` stands where the command line is banger's own; for errors found before a command is known. */
export function asksForJson(argv: readonly string[]): boolean {
  const end = argv.indexOf("--");
  return argv.slice(0, end === -1 ? undefined : end).includes("--json");
}

/**
 * Finds the command and reads its arguments. Loads the code of that one command only, of a group's none.
 * @throws BangerError USAGE
 */
export async function planCommand(argv: readonly string[], root: Group): Promise<Plan> {
  const path: string[] = [];
  const leading: string[] = [];
  let node: Group | Entry = root;
  let position = 0;
  for (; isGroup(node); position++) {
    const word: string | undefined = argv[position];
    if (word === undefined || word === "--help" || word === "-h") return { kind: "group-help", path, group: node };
    if (word === "--version" && path.length === 0) return { kind: "version", json: asksForJson(argv) };
    if (word === "--json" || word === "--no-color") {
      leading.push(word);
      continue;
    }
    if (word.startsWith("-")) {
      const near = didYouMean(word.replace(/^-+/, ""), ["help", "version", "json", "no-color"], "--");
      throw usageError(`${["banger", ...path].join(" ")} takes no ${word} before its command${near}`, path);
    }
    const found: Group | Entry | null = findNode(node, word);
    if (found === null) {
      const where = path.length === 0 ? "banger" : `banger ${path.join(" ")}`;
      throw usageError(`${where} has no command ${JSON.stringify(word)}${didYouMean(word, namesOf(node))}`, path);
    }
    path.push(word);
    node = found;
  }
  const entry: Entry = node;
  const command = await entry.load();
  const scanned = scanArguments([...leading, ...argv.slice(position)], command, path);
  return scanned === "help"
    ? { kind: "command-help", path, command, entry }
    : { kind: "run", path, command, entry, scanned };
}

/** Other spellings of a flag; single letters are short flags. */
export function aliasesOf(arg: ArgDef): readonly string[] {
  return "alias" in arg && arg.alias !== undefined ? [arg.alias].flat() : [];
}

interface Flag {
  readonly name: string;
  readonly type: "boolean" | "string";
  readonly value: boolean;
}

/** Every spelling of every flag a command takes, without its hyphens. */
export function flagsOf(command: Command): ReadonlyMap<string, Flag> {
  const flags = new Map<string, Flag>();
  for (const [name, arg] of Object.entries(command.args)) {
    if (arg.type === "positional") continue;
    const type = arg.type === "boolean" ? "boolean" : "string";
    for (const spelling of [name, ...aliasesOf(arg)]) flags.set(spelling, { name, type, value: true });
    if (arg.type === "boolean" && arg.negativeDescription !== undefined)
      flags.set(`no-${name}`, { name, type, value: false });
  }
  if (command.json === true) flags.set("json", { name: "json", type: "boolean", value: true });
  flags.set("help", { name: "help", type: "boolean", value: true });
  flags.set("h", { name: "help", type: "boolean", value: true });
  flags.set("no-color", { name: "color", type: "boolean", value: false });
  return flags;
}

/** Reads the words after the command's name. @throws BangerError USAGE */
function scanArguments(words: readonly string[], command: Command, path: readonly string[]): Scanned | "help" {
  const flags = flagsOf(command);
  const values = new Map<string, string | boolean>();
  const lists = new Map<string, string[]>((command.repeatable ?? []).map((name) => [name, []]));
  const positionals: string[] = [];
  let rest: readonly string[] | null = null;
  let problem: BangerError | null = null;
  const fail = (message: string): void => {
    problem ??= usageError(message, path);
  };
  const called = `banger ${path.join(" ")}`;

  const set = (flag: Flag, typed: string, value: string | boolean): void => {
    const list = lists.get(flag.name);
    if (list !== undefined) list.push(String(value));
    else if (values.has(flag.name)) fail(`${typed} is given twice`);
    else values.set(flag.name, value);
  };

  for (let i = 0; i < words.length; i++) {
    const word = words[i] ?? "";
    if (word === "--") {
      rest = words.slice(i + 1);
      break;
    }
    if (!word.startsWith("-") || word === "-") {
      positionals.push(word);
      continue;
    }
    const isLong = word.startsWith("--");
    const equals = isLong ? word.indexOf("=") : -1;
    // Short flags may stand together: -aq; the first that takes a value takes the rest of the word.
    let letters = isLong ? "" : word.slice(1);
    do {
      const spelling = isLong ? word.slice(2, equals === -1 ? undefined : equals) : letters.slice(0, 1);
      const typed = isLong ? `--${spelling}` : `-${spelling}`;
      const attached = isLong ? (equals === -1 ? null : word.slice(equals + 1)) : letters.slice(1) || null;
      letters = letters.slice(1);
      const flag = (spelling.length === 1) === isLong ? undefined : flags.get(spelling);
      if (flag === undefined) {
        const isOneDash = !isLong && flags.has(word.slice(1));
        const near = isOneDash
          ? `; did you mean -${word}?`
          : didYouMean(
              spelling,
              [...flags.keys()].filter((name) => name.length > 1),
              "--",
            );
        fail(`${called} has no flag ${isOneDash ? word : typed}${near}`);
        break;
      }
      if (flag.type === "boolean") {
        if (isLong && attached !== null) fail(`${typed} takes no value`);
        set(flag, typed, flag.value);
        continue;
      }
      letters = "";
      if (attached !== null) {
        set(flag, typed, attached);
        continue;
      }
      const next = words[i + 1];
      if (next === undefined || next === "--" || (next.startsWith("--") && flags.has(next.slice(2)))) {
        fail(`${typed} needs a value`);
        continue;
      }
      set(flag, typed, next);
      i++;
    } while (letters !== "");
  }

  if (values.get("help") === true) return "help";
  if (rest !== null && command.trailing === undefined) fail(`${called} takes no command after --`);

  // The words at the end are for the positionals that stand after the variadic one.
  const named = Object.values(command.args).filter(({ type }) => type === "positional").length;
  const leading =
    command.variadic?.first === true ? positionals.splice(0, Math.max(0, positionals.length - named)) : null;
  const args: Record<string, unknown> = Object.create(null) as Record<string, unknown>;
  for (const [name, arg] of Object.entries(command.args as ArgsDef)) {
    const given = arg.type === "positional" ? positionals.shift() : values.get(name);
    const value = given ?? arg.default;
    if (arg.type === "positional" && value === undefined && arg.required === true)
      fail(`${called} needs ${valueName(name, arg)}`);
    if (arg.type === "enum" && value !== undefined && !(arg.options ?? []).includes(String(value))) {
      const options = arg.options ?? [];
      fail(
        `--${name} must be one of ${options.join(", ")}, not ${JSON.stringify(value)}${didYouMean(String(value), options)}`,
      );
    }
    args[name] = value;
  }
  const many = leading ?? (command.variadic === undefined ? [] : positionals.splice(0));
  if (many.length < (command.variadic?.least ?? 0))
    fail(`${called} needs at least one ${command.variadic?.name.toUpperCase()}`);
  const [extra] = positionals;
  if (extra !== undefined) {
    const after = command.trailing === undefined ? "" : "; the command goes after --";
    fail(`${called} does not take ${JSON.stringify(extra)}${after}`);
  }
  if (problem !== null) throw problem;
  return {
    args: args as ParsedArgs,
    many,
    lists: Object.fromEntries(lists),
    rest,
    json: values.get("json") === true,
    noColor: values.get("color") === false,
  };
}

/** How a value is written in help and messages: `NAME`. */
export function valueName(name: string, arg: { readonly valueHint?: string }): string {
  return (arg.valueHint ?? name).toUpperCase();
}
