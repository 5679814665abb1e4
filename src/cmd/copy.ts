/** `cp`: a tar stream over ssh. What comes from a guest is not trusted: only the asked-for name is unpacked. */

import { lstat, mkdtemp, rename, rm, stat } from "node:fs/promises";
import { basename, dirname, join, posix, resolve } from "node:path";
import { BangerError, isErrno } from "../shared/errors.ts";
import { quote } from "../shared/remote-command.ts";
import { type Connection, sshLine } from "./guest-exec.ts";
import type { Interrupts } from "./interrupts.ts";

export type Endpoint =
  | { readonly kind: "guest"; readonly vm: string; readonly path: string }
  | { readonly kind: "host"; readonly path: string }
  | { readonly kind: "stream" };

/** `VM:PATH`, `-`, or a path of this host; a host path with a colon is written `./a:b`. */
export function parseEndpoint(text: string): Endpoint {
  if (text === "-") return { kind: "stream" };
  const match = /^([a-z0-9-]{1,63}):([\s\S]*)$/.exec(text);
  if (match === null) return { kind: "host", path: text };
  return { kind: "guest", vm: match[1] ?? "", path: guestPath(match[2] ?? "") };
}

/** Relative to /root, as a shell there would have it. */
export function guestPath(path: string): string {
  const absolute = path.startsWith("~/") ? posix.join("/root", path.slice(2)) : posix.resolve("/root", path);
  return path.endsWith("/") && absolute !== "/" ? `${absolute}/` : absolute;
}

/** Owners are those of whoever unpacks, as with cp; modes and times are kept. */
const UNPACK = ["-x", "-p", "--no-same-owner", "-f", "-"] as const;

/**
 * The line that unpacks one member `name` at `target`: into it when it is a directory, else under its name, put there
 * in one step.
 */
export function unpackLine(target: string, name: string): string {
  const unpack = `tar ${UNPACK.join(" ")}`;
  return [
    `set -- ${[target, name, posix.dirname(target)].map(quote).join(" ")}`,
    `if [ -d "$1" ]; then exec ${unpack} -C "$1" -- "$2"; fi`,
    'd=$(mktemp -d -- "$3/.banger-cp-XXXXXXXX") || exit 1',
    `if ${unpack} -C "$d" -- "$2" && mv -T -- "$d/$2" "$1"; then s=0; else s=1; fi`,
    'rm -rf -- "$d"; exit $s',
  ].join("; ");
}

/** The line that packs a path; a link to a file as the file. */
export function packLine(path: string): string {
  const [parent, name] = [posix.dirname(path), posix.basename(path)];
  return [
    `set -- ${[parent, name].map(quote).join(" ")}`,
    'cd -- "$1" || exit 1',
    'h=; [ -L "$2" ] && [ -f "$2" ] && h=-h',
    'exec tar -c $h -f - -- "$2"',
  ].join("; ");
}

/** The last part of a path, by which it is packed. @throws BangerError INVALID_VALUE */
function memberName(path: string, name: string): string {
  if (name === "" || name === "/")
    throw new BangerError("INVALID_VALUE", `${path} can't be copied as a whole: name a directory in it`);
  return name;
}

/** @throws BangerError FAILED, with what tar or ssh said */
export async function copyIn(
  connection: Connection,
  source: Exclude<Endpoint, { kind: "guest" }>,
  target: string,
  interrupts: Interrupts,
): Promise<void> {
  if (source.kind === "stream") {
    const line = `mkdir -p -- ${quote(target)} && exec tar ${UNPACK.join(" ")} -C ${quote(target)}`;
    return await runAll([{ argv: sshTo(connection, line), stdin: "inherit", stdout: "ignore" }], interrupts);
  }
  const path = resolve(source.path);
  const info = await lstat(path).catch((thrown: unknown) => {
    throw notThere(source.path, thrown);
  });
  const isLinkToFile =
    info.isSymbolicLink() &&
    (await stat(path).then(
      (to) => to.isFile(),
      () => false,
    ));
  const name = memberName(source.path, basename(path));
  await runAll(
    [
      {
        argv: ["tar", "-c", ...(isLinkToFile ? ["-h"] : []), "-f", "-", "-C", dirname(path), "--", name],
        stdin: "ignore",
        stdout: "pipe",
      },
      { argv: sshTo(connection, unpackLine(target, name)), stdin: "pipe", stdout: "ignore" },
    ],
    interrupts,
  );
}

/** @throws BangerError FAILED, with what tar or ssh said */
export async function copyOut(
  connection: Connection,
  source: string,
  target: Exclude<Endpoint, { kind: "guest" }>,
  interrupts: Interrupts,
): Promise<void> {
  const name = memberName(source, posix.basename(source));
  const pack = sshTo(connection, packLine(source));
  if (target.kind === "stream") return await runAll([{ argv: pack, stdin: "ignore", stdout: "inherit" }], interrupts);
  const path = resolve(target.path);
  const unpackAt = async (dir: string): Promise<void> =>
    await runAll(
      [
        { argv: pack, stdin: "ignore", stdout: "pipe" },
        { argv: ["tar", ...UNPACK, "-C", dir, "--", name], stdin: "pipe", stdout: "ignore" },
      ],
      interrupts,
    );
  if (
    await stat(path).then(
      (info) => info.isDirectory(),
      () => false,
    )
  )
    return await unpackAt(path);
  const staging = await mkdtemp(join(dirname(path), ".banger-cp-")).catch((thrown: unknown) => {
    throw notThere(dirname(path), thrown);
  });
  try {
    await unpackAt(staging);
    if (target.path.endsWith("/") && !(await stat(join(staging, name))).isDirectory())
      throw new BangerError("INVALID_VALUE", `${target.path} is not a directory`);
    await rename(join(staging, name), path);
  } finally {
    await rm(staging, { recursive: true, force: true });
  }
}

function notThere(path: string, thrown: unknown): unknown {
  if (isErrno(thrown, "ENOENT") || isErrno(thrown, "ENOTDIR"))
    return new BangerError("FAILED", `${path} is not there`, { hint: `ls -ld ${path}` });
  if (isErrno(thrown, "EACCES") || isErrno(thrown, "EROFS"))
    return new BangerError("FAILED", `${path}: not permitted`, { hint: `ls -ld ${path}` });
  return thrown;
}

function sshTo(connection: Connection, line: string): string[] {
  return sshLine(connection, "-T", line);
}

interface Stage {
  readonly argv: readonly string[];
  readonly stdin: "inherit" | "ignore" | "pipe";
  readonly stdout: "inherit" | "ignore" | "pipe";
}

/** One program, or two with a pipe between. @throws BangerError FAILED with what the one that failed first said */
async function runAll([first, second]: readonly Stage[], interrupts: Interrupts): Promise<void> {
  if (first === undefined) return;
  interrupts.signal.throwIfAborted();
  const start = (stage: Stage, stdin: ReadableStream | "inherit" | "ignore") =>
    Bun.spawn([...stage.argv], { stdin, stdout: stage.stdout, stderr: "pipe" });
  const one = start(first, first.stdin === "inherit" ? "inherit" : "ignore");
  const children = second === undefined ? [one] : [one, start(second, one.stdout as ReadableStream)];
  const stop = (): void => {
    for (const child of children) child.kill("SIGTERM");
  };
  interrupts.signal.addEventListener("abort", stop);
  try {
    const said = await Promise.all(children.map(async ({ stderr }) => (await new Response(stderr).text()).trim()));
    await Promise.all(children.map(async (child) => await child.exited));
    interrupts.signal.throwIfAborted();
    if (children.every(({ exitCode }) => exitCode === 0)) return;
    // A packer that was ended by its broken pipe has nothing to say; one that failed by itself says why the unpacker did.
    const message = children
      .map(({ exitCode }, i) => (exitCode === 0 || exitCode === null ? "" : said[i]))
      .find((text) => text !== "");
    throw new BangerError("FAILED", message ?? "the copy failed, and nobody said why");
  } finally {
    interrupts.signal.removeEventListener("abort", stop);
  }
}
