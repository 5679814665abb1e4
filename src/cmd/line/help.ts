/** Help: the purpose, the most common commands, next steps. */

import { type Command, type Entry, type Group, isGroup } from "./command.ts";
import { aliasesOf, valueName } from "./parse.ts";

const WIDTH = 100;

function columns(rows: readonly (readonly [string, string])[]): string[] {
  const width = Math.min(44, Math.max(0, ...rows.map(([left]) => left.length)));
  return rows.flatMap(([left, right]) => {
    const [first = "", ...more] = wrap(right, WIDTH - width - 4);
    const indent = " ".repeat(width + 4);
    return left.length > width
      ? [`  ${left}`, `${indent}${first}`.trimEnd(), ...more.map((line) => indent + line)]
      : [`  ${left.padEnd(width)}  ${first}`.trimEnd(), ...more.map((line) => indent + line)];
  });
}

const wrap = (text: string, width: number): string[] => Bun.wrapAnsi(text, width).split("\n");

/** Help of a group, from the table alone. */
export function groupHelp(path: readonly string[], group: Group): string {
  const called = ["banger", ...path].join(" ");
  const rows = Object.entries(group.commands)
    .filter(([, node]) => node.hidden !== true)
    .map(([name, node]) => [[name, ...(isGroup(node) ? [] : (node.aliases ?? []))].join(", "), node.summary] as const);
  return [
    `${called} COMMAND`,
    "",
    ...wrap(group.purpose, WIDTH),
    "",
    "Most common:",
    ...columns(group.usual),
    "",
    "Next steps:",
    ...columns(group.next),
    "",
    "Commands:",
    ...columns(rows),
    "",
    `For help on a command: ${called} COMMAND --help`,
    "",
  ].join("\n");
}

/** Usage line of a command. */
function usageLine(path: readonly string[], command: Command): string {
  const args = Object.entries(command.args);
  const words = [
    "banger",
    ...path,
    ...(args.some(([, arg]) => arg.type !== "positional") || command.json === true ? ["[FLAGS]"] : []),
  ];
  const positionals = args
    .filter(([, arg]) => arg.type === "positional")
    .map(([name, arg]) => (arg.required === true ? valueName(name, arg) : `[${valueName(name, arg)}]`));
  if (command.variadic === undefined) {
    words.push(...positionals);
  } else {
    const name = `${command.variadic.name.toUpperCase()}...`;
    const variadic = command.variadic.least === 0 ? `[${name}]` : name;
    words.push(...(command.variadic.first === true ? [variadic, ...positionals] : [...positionals, variadic]));
  }
  if (command.trailing !== undefined) words.push(`[-- ${command.trailing.name}]`);
  return words.join(" ");
}

export function commandHelp(path: readonly string[], command: Command, entry: Entry): string {
  const positionals: (readonly [string, string])[] = [];
  const flags: (readonly [string, string])[] = [];
  for (const [name, arg] of Object.entries(command.args)) {
    if (arg.type === "positional") {
      positionals.push([valueName(name, arg), arg.description ?? ""]);
      continue;
    }
    const shorts = aliasesOf(arg).map((alias) => (alias.length === 1 ? `-${alias}` : `--${alias}`));
    const value = arg.type === "boolean" ? "" : ` ${valueName(name, arg)}`;
    const choices = arg.type === "enum" ? ` One of ${(arg.options ?? []).join(", ")}.` : "";
    const again = command.repeatable?.includes(name) === true ? " Can be repeated." : "";
    if (!(arg.type === "boolean" && arg.default === true && arg.negativeDescription !== undefined))
      flags.push([`${[...shorts, `--${name}`].join(", ")}${value}`, `${arg.description ?? ""}${choices}${again}`]);
    if (arg.type === "boolean" && arg.negativeDescription !== undefined)
      flags.push([`--no-${name}`, arg.negativeDescription]);
  }
  if (command.variadic !== undefined) {
    const row = [`${command.variadic.name.toUpperCase()}...`, command.variadic.description] as const;
    if (command.variadic.first === true) positionals.unshift(row);
    else positionals.push(row);
  }
  if (command.trailing !== undefined) positionals.push([`-- ${command.trailing.name}`, command.trailing.description]);
  if (command.json === true) flags.push(["--json", "Prints the answer as JSON."]);
  flags.push(["--no-color", "Turns colours off, as NO_COLOR does."], ["-h, --help", "Shows this help."]);
  return [
    usageLine(path, command),
    "",
    ...wrap(entry.summary, WIDTH),
    "",
    ...columns(command.examples),
    ...(positionals.length === 0 ? [] : ["", "Arguments:", ...columns(positionals)]),
    "",
    "Flags:",
    ...columns(flags),
    ...(command.next === undefined ? [] : ["", `Next: ${command.next}`]),
    "",
  ].join("\n");
}
