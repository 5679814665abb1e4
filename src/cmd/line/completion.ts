/**
 * What a shell may offer for the word under the cursor. Pure but for the names, which the caller looks up.
 *
 * By hand, because `@bomb.sh/tab` 0.0.22 has bash run what is typed: Tab after `exec box -- $(reboot)` reboots. It also
 * offers no files, asks for names before it knows which kind is needed, and loads every command to complete one.
 */

import { flagsOf } from "./parse.ts";
import { type Command, findNode, type Group, isGroup } from "./command.ts";

export type NameKind = "vm" | "image" | "kernel" | "code" | "shell";

export interface Candidate {
  readonly value: string;
  readonly description: string;
}

export interface Completion {
  readonly candidates: readonly Candidate[];
  /** Whether file names may stand there too. */
  readonly files: boolean;
}

const NOTHING: Completion = { candidates: [], files: false };

/** What the arguments of these names take, wherever they stand. */
const KINDS: ReadonlyMap<string, NameKind | "file" | "endpoint"> = new Map([
  ["vm", "vm"],
  ["image", "image"],
  ["kernel", "kernel"],
  ["code", "code"],
  ["shell", "shell"],
  ["rootfs", "file"],
  ["from", "file"],
  ["initrd", "file"],
  ["path", "file"],
  ["src", "endpoint"],
  ["dst", "endpoint"],
]);

/** Joins the words that bash splits at the `=` of `--flag=value` and at the colon of `VM:PATH`. */
export function joinBashWords(words: readonly string[]): string[] {
  const joined: string[] = [];
  for (let i = 0; i < words.length; i++) {
    const word = words[i] ?? "";
    const before = joined.at(-1);
    if (before !== undefined && (word === ":" || (word === "=" && before.startsWith("--")))) {
      joined[joined.length - 1] = `${before}${word}${words[i + 1] ?? ""}`;
      i++;
    } else {
      joined.push(word);
    }
  }
  return joined;
}

/** What of a candidate bash inserts: it replaces only what is typed after the last `=` or `:` of the word. */
export function tailForBash(value: string, partial: string): string {
  return value.slice(Math.max(partial.lastIndexOf("="), partial.lastIndexOf(":")) + 1);
}

/** `words` are those after `banger`, the last one being typed. */
export async function complete(
  words: readonly string[],
  root: Group,
  lookUp: (kind: NameKind) => Promise<readonly Candidate[]>,
): Promise<Completion> {
  const partial = words.at(-1) ?? "";
  const before = words.slice(0, -1);
  let node = root;
  for (let i = 0; i < before.length; i++) {
    const word = before[i] ?? "";
    if (word === "--json" || word === "--no-color") continue;
    const next = findNode(node, word);
    if (next === null) return NOTHING;
    if (!isGroup(next)) return await completeCommand(await next.load(), before.slice(i + 1), partial, lookUp);
    node = next;
  }
  const commands = Object.entries(node.commands)
    .filter(([, one]) => one.hidden !== true)
    .map(([value, one]) => ({ value, description: one.summary }));
  return { candidates: startingWith(commands, partial), files: false };
}

function startingWith(candidates: readonly Candidate[], partial: string): Candidate[] {
  return candidates.filter(({ value }) => value.startsWith(partial));
}

async function completeCommand(
  command: Command,
  before: readonly string[],
  partial: string,
  lookUp: (kind: NameKind) => Promise<readonly Candidate[]>,
): Promise<Completion> {
  if (before.includes("--")) return { candidates: [], files: true };
  const flags = flagsOf(command);
  const given = new Set<string>();
  let positionals = 0;
  let pending: string | null = null;
  for (const word of before) {
    if (pending !== null) {
      pending = null;
    } else if (word.startsWith("-") && word !== "-") {
      const [spelling = "", attached] = word.replace(/^--?/, "").split(/=(.*)/s);
      const flag = flags.get(spelling);
      if (flag === undefined) continue;
      given.add(flag.name);
      if (flag.type === "string" && attached === undefined) pending = flag.name;
    } else {
      positionals++;
    }
  }
  const ofKind = async (name: string, typed: string, prefix = ""): Promise<Completion> => {
    const arg = command.args[name];
    if (arg?.type === "enum") {
      const options = (arg.options ?? []).map((value) => ({ value: prefix + value, description: "" }));
      return { candidates: startingWith(options, prefix + typed), files: false };
    }
    const kind = KINDS.get(name);
    if (kind === undefined) return NOTHING;
    if (kind === "file") return { candidates: [], files: true };
    if (kind === "endpoint") {
      const { parseEndpoint } = await import("../guest/copy/endpoint.ts");
      // A path in the guest: this host doesn't know it.
      if (parseEndpoint(typed).kind === "guest") return NOTHING;
      const vms = (await lookUp("vm")).map(({ value, description }) => ({ value: `${value}:`, description }));
      return { candidates: startingWith(vms, typed), files: true };
    }
    const names = (await lookUp(kind)).map(({ value, description }) => ({ value: prefix + value, description }));
    return { candidates: startingWith(names, prefix + typed), files: false };
  };
  if (pending !== null) return await ofKind(pending, partial);
  const withValue = /^--([^=]+)=(.*)$/s.exec(partial);
  if (withValue !== null) {
    const flag = flags.get(withValue[1] ?? "");
    return flag === undefined || flag.type === "boolean"
      ? NOTHING
      : await ofKind(flag.name, withValue[2] ?? "", `--${withValue[1]}=`);
  }
  if (partial.startsWith("-")) {
    const spellings = [...flags].filter(
      ([spelling, { name }]) =>
        spelling.length > 1 && (!given.has(name) || command.repeatable?.includes(name) === true),
    );
    const candidates = spellings.map(([spelling, { name }]) => ({
      value: `--${spelling}`,
      description: command.args[name]?.description ?? "",
    }));
    return { candidates: startingWith(candidates, partial), files: false };
  }
  const named = Object.entries(command.args)
    .filter(([, arg]) => arg.type === "positional")
    .map(([name]) => name);
  const name = (command.variadic?.first === true ? undefined : named[positionals]) ?? command.variadic?.name;
  return name === undefined ? NOTHING : await ofKind(name, partial);
}
