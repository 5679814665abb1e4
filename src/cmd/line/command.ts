/** A command: citty's argument definitions, plus what the strict dispatch needs to know. And the tree of commands. */

import type { ArgsDef, ParsedArgs } from "citty";
import type { ConnectOptions, Client } from "../daemon/client.ts";
import type { Interrupts } from "../terminal/interrupts.ts";
import type { RawArgument } from "./raw-arguments.ts";
import type { Output } from "../terminal/output.ts";

/** What a command gets when it runs. */
export interface Invocation<T extends ArgsDef = ArgsDef> {
  readonly args: ParsedArgs<T>;
  /** Values of the positional that may be given several times. */
  readonly many: readonly string[];
  /** Values of the flags that may be given several times, by name. */
  readonly lists: Readonly<Record<string, readonly string[]>>;
  /** What stood after `--`, untouched; null when there was no `--`. */
  readonly rest: readonly string[] | null;
  /** The same as the kernel gave it, for a command that takes bytes. */
  readonly rawRest: readonly RawArgument[];
  readonly json: boolean;
  readonly out: Output;
  readonly interrupts: Interrupts;
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Every command there is, for help and completion. */
  readonly tree: Group;
  /** The daemon's client, made at first use; starts the daemon of rootless mode when none answers. */
  client(options?: ConnectOptions): Promise<Client>;
}

export interface Command<T extends ArgsDef = ArgsDef> {
  readonly args: T;
  /** The positional that takes the remaining words, and how many it needs; `first` when it stands before the others. */
  readonly variadic?: {
    readonly name: string;
    readonly description: string;
    readonly least: 0 | 1;
    readonly first?: boolean;
  };
  /** Flags that may be given more than once. */
  readonly repeatable?: readonly (keyof T & string)[];
  /** Whether words after `--` are taken, and what they are called. */
  readonly trailing?: { readonly name: string; readonly description: string };
  /** Whether those words may be any bytes, not only text. */
  readonly takesBytes?: true;
  /** With words after `--`, the exit status is that of the guest command; a failure before it is 125. */
  readonly isGuestStatus?: boolean;
  /** Whether `--json` is taken. */
  readonly json?: boolean;
  /** Command line and what it does; the first is the one wanted most. */
  readonly examples: readonly (readonly [line: string, does: string])[];
  /** What one does afterwards. */
  readonly next?: string;
  /** Exit status; nothing is 0. @throws BangerError */
  run(invocation: Invocation<T>): Promise<number | void>;
}

/** Keeps the types of the arguments; what is given comes back. */
export function defineCommand<const T extends ArgsDef>(command: Command<T>): Command {
  return command as unknown as Command;
}

type Example = readonly [line: string, does: string];

export interface Entry {
  readonly summary: string;
  readonly aliases?: readonly string[];
  /** For banger's own processes: in no help, in no completion. */
  readonly hidden?: boolean;
  /** Needs nothing of the owner's daemon or files. On an installed system root runs only these. */
  readonly forRoot?: true;
  load(): Promise<Command>;
}

export interface Group {
  readonly summary: string;
  readonly hidden?: boolean;
  /** What is it for? */
  readonly purpose: string;
  /** The command one wants most of the time. */
  readonly usual: readonly Example[];
  /** What comes next. */
  readonly next: readonly Example[];
  /** Without a prototype, so that `constructor` is no command. */
  readonly commands: Readonly<Record<string, Entry | Group>>;
}

export function isGroup(node: Entry | Group): node is Group {
  return "commands" in node;
}

/** What a typed word names; null when nothing. */
export function findNode(group: Group, word: string): Entry | Group | null {
  const direct = group.commands[word];
  if (direct !== undefined) return direct;
  return Object.values(group.commands).find((node) => !isGroup(node) && node.aliases?.includes(word) === true) ?? null;
}

/** Every word that {@link findNode} would find and help shows. */
export function namesOf(group: Group): readonly string[] {
  return Object.entries(group.commands)
    .filter(([, node]) => node.hidden !== true)
    .flatMap(([name, node]) => [name, ...(isGroup(node) ? [] : (node.aliases ?? []))]);
}
