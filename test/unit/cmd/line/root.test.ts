import { describe, expect, test } from "bun:test";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { ROOT } from "../../../../src/cmd/commands/index.ts";
import { type Entry, type Group, isGroup } from "../../../../src/cmd/line/command.ts";
import { distrustedOwner, readOwner, refuseRoot } from "../../../../src/cmd/line/root.ts";
import { runInProcess } from "../../../support/cli.ts";

const OWNER = { uid: 1000, name: "dev" };
/** What root may run on an installed system; the list is here so that a new command is refused until somebody thought of it. */
const FOR_ROOT = [
  "completion",
  "explain",
  "help",
  "internal complete",
  "system install",
  "system restart",
  "system status",
  "system uninstall",
  "update",
  "version",
];

function walk(group: Group, path: readonly string[] = []): readonly (readonly [path: string, entry: Entry])[] {
  return Object.entries(group.commands).flatMap(([name, node]) =>
    isGroup(node) ? walk(node, [...path, name]) : [[[...path, name].join(" "), node] as const],
  );
}
const commands = walk(ROOT);

/** The fewest words that a command takes. */
async function words(path: string, entry: Entry): Promise<readonly string[]> {
  const command = await entry.load();
  const positionals = Object.entries(command.args).filter(
    ([, { type, required }]) => type === "positional" && required,
  );
  const value = (name: string): string =>
    ({ src: "box:/etc/hostname", dst: "/tmp/x", host: "box.vm", shell: "bash", code: "FAILED" })[name] ?? "box";
  return [
    ...path.split(" "),
    ...positionals.map(([name]) => value(name)),
    ...(command.variadic?.least === 1 ? ["box"] : []),
    ...(path.endsWith("exec") ? ["--", "true"] : []),
  ];
}

describe("root on an installed system", () => {
  test("runs what is marked, and nothing else is", () => {
    expect(
      commands
        .filter(([, { forRoot }]) => forRoot === true)
        .map(([path]) => path)
        .toSorted(),
    ).toEqual(FOR_ROOT);
  });

  test.each(commands.filter(([path]) => !FOR_ROOT.includes(path)))(
    "banger %s is refused before the daemon is asked, with the line to type",
    async (path, entry) => {
      const argv = await words(path, entry);
      const { calls, stdout, stderr, status } = await runInProcess(argv, {}, {}, OWNER);
      expect(stderr).toBe(
        `error: root can't use the VMs of dev: run this as dev [NOT_OWNER]\ntry: sudo -u dev banger ${argv.join(" ")}\n`,
      );
      expect({ calls, stdout }).toEqual({ calls: [], stdout: "" });
      expect(status).toBe(path.endsWith("exec") ? 125 : 10);
    },
  );

  test("help and versions of every command are there", async () => {
    for (const [path] of commands) {
      const { status, calls } = await runInProcess([...path.split(" "), "--help"], {}, {}, OWNER);
      expect({ path, status, calls }).toEqual({ path, status: 0, calls: [] });
    }
    for (const line of ["version", "--version", "help", "explain NOT_OWNER", "completion bash"])
      expect((await runInProcess(line.split(" "), {}, {}, OWNER)).status).toBe(0);
  });

  test("the line to type is the user's own, quoted", () => {
    expect(refuseRoot(OWNER, ["exec", "box", "--", "sh", "-c", "echo it's $HOME"]).hint).toBe(
      "sudo -u dev banger exec box -- sh -c 'echo it'\\''s $HOME'",
    );
  });

  test("is distrustful of the owner only as root, and only of another", () => {
    expect(distrustedOwner(0, OWNER)).toBe(OWNER);
    expect(distrustedOwner(0, null)).toBeNull();
    expect(distrustedOwner(1000, OWNER)).toBeNull();
    expect(distrustedOwner(0, { uid: 0, name: "root" })).toBeNull();
  });
});

test("the owner is read from install.toml; what is none is said", async () => {
  const dir = await mkdtemp("/tmp/bt-root-");
  try {
    const file = join(dir, "install.toml");
    expect(readOwner(file)).toBeNull();
    await writeFile(file, '[owner]\nuid = 1000\nname = "dev"\n');
    expect(readOwner(file)).toEqual(OWNER);
    for (const text of ["[owner]\nuid = 1000\n", "[", "x = 1\n"]) {
      await writeFile(file, text);
      expect(() => readOwner(file)).toThrow(expect.objectContaining({ code: "CONFIG_INVALID" }));
    }
  } finally {
    await rm(dir, { recursive: true });
  }
});
