/** `cp`: a tar stream to or from a program in the guest. What comes from a guest is not trusted: it passes {@link TarGate}. */

import { chmod, copyFile, lstat, mkdir, mkdtemp, realpath, rm, stat } from "node:fs/promises";
import { dirname, isAbsolute, join, resolve } from "node:path";
import { BangerError, isErrno } from "../../../shared/errors.ts";
import type { Interrupts } from "../../terminal/interrupts.ts";
import type { Output } from "../../terminal/output.ts";
import { checkPlace, joinBytes, movePlace } from "./place.ts";
import { type Endpoint, type PackPlan, planPack } from "./endpoint.ts";
import { catArgv, NO_SPARSE, PACK_SPARSE, packArgv, UNPACK, unpackArgv, unpackStreamArgv } from "./guest-lines.ts";
import type { StartInGuest } from "./guest-program.ts";
import { receive, receiveGated, receiveInto, sendInput, sendOutputOf, type Show } from "./streams.ts";
import { TarGate } from "./tar-gate.ts";

/** So many of the tools' remarks are shown. */
const REMARKS = 20;

/** What a copy needs besides its two ends. */
export interface CopyContext {
  readonly start: StartInGuest;
  readonly out: Output;
  readonly interrupts: Interrupts;
  /** Of several sources each: the target is a directory, or nothing is copied. */
  readonly isOneOfSeveral: boolean;
}

/** @throws BangerError FAILED, with what a tool said */
export async function copyIn(
  source: Exclude<Endpoint, { kind: "guest" }>,
  target: string,
  { start, out, interrupts, isOneOfSeveral }: CopyContext,
): Promise<void> {
  if (source.kind === "stream") return warnOf(await sendInput(start, unpackStreamArgv(target), interrupts), out);
  const plan = planPack(isAbsolute(source.path) ? source.path : `${process.cwd()}/${source.path}`, source.path);
  const path = `${plan.dir}/${plan.member}`;
  const info = await lstat(path).catch((thrown: unknown) => {
    throw notThere(source.path, thrown);
  });
  if (plan.member === "." && !info.isDirectory()) throw notADirectory(source.path);
  const isLinkToFile =
    info.isSymbolicLink() &&
    (await stat(path).then(
      (to) => to.isFile(),
      () => false,
    ));
  const copy = async (isSparse: boolean): Promise<string> => {
    const options = [...(isLinkToFile ? ["-h"] : []), ...(isSparse ? PACK_SPARSE : [])];
    const pack = ["tar", "-c", ...options, "-f", "-", "-C", plan.dir, "--", plan.member];
    const unpack = unpackArgv(target, plan, { isSparse, isOneOfSeveral });
    const copying = async (show: Show) => await sendOutputOf(pack, start, unpack, interrupts, show);
    return await out.waiting(`copying ${source.path}`, copying);
  };
  const hasHoles = info.isDirectory() || isLinkToFile || info.blocks * 512 < info.size;
  const said = await copy(hasHoles).catch(async (thrown: unknown) => {
    if (thrown instanceof BangerError && thrown.details?.["status"] === NO_SPARSE) return await copy(false);
    throw thrown;
  });
  warnOf(said, out);
}

/** @throws BangerError FAILED, with what a tool said, or what in the guest's archive can't be trusted */
export async function copyOut(
  source: string,
  target: Exclude<Endpoint, { kind: "guest" }>,
  { start, out, interrupts }: CopyContext,
): Promise<void> {
  const plan = planPack(source, source);
  const pack = packArgv(plan);
  if (target.kind === "stream") {
    if (out.stdout.isTerminal)
      throw new BangerError("INVALID_VALUE", "a tar stream can't be written to a terminal", {
        hint: "banger cp VM:PATH .",
      });
    const gate = new TarGate(null);
    const print = async (bytes: Uint8Array) => await out.pass("stdout", bytes);
    warnOf(await receiveGated(start, pack, gate, print, interrupts), out);
    return warnOfSkipped(gate, out);
  }
  const at = await lookAt(target.path);
  if (at.kind === "special") return await writeInto(at.path, catArgv(plan), { start, out, interrupts });
  const parent = at.kind === "directory" ? at.path : dirname(at.path);
  const staging = await mkdtemp(join(parent, ".banger-cp-")).catch((thrown: unknown) => {
    throw notThere(parent, thrown);
  });
  try {
    const root = join(staging, "t");
    await mkdir(root, { mode: 0o700 });
    const gate = new TarGate(plan.member === "." ? null : plan.member);
    const unpack = ["tar", ...UNPACK, "-C", root];
    const copying = async (show: Show) => await receiveInto(unpack, start, pack, interrupts, gate, show);
    warnOf(await out.waiting(`copying ${source}`, copying), out);
    const payload = plan.member === "." ? root : join(root, plan.member);
    await place(payload, target.path, at, plan, gate);
    warnOfSkipped(gate, out);
  } finally {
    await rm(staging, { recursive: true, force: true });
  }
}

/** This process's stdout may be a socket, which has no name that could be opened. */
const OWN_STDOUT = new Set(["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"]);

/** A file's contents into a device or a fifo. dd opens it, as opening a fifo waits for a reader. */
async function writeInto(
  path: string,
  cat: readonly string[],
  { start, out, interrupts }: Pick<CopyContext, "start" | "out" | "interrupts">,
): Promise<void> {
  if (OWN_STDOUT.has(path)) await receive(start, cat, async (bytes) => await out.pass("stdout", bytes), interrupts);
  else await receiveInto(["dd", `of=${path}`, "bs=65536", "status=none"], start, cat, interrupts, null);
}

/** Puts what was unpacked at its target, with the modes that had to wait. */
async function place(payload: string, typed: string, at: Place, plan: PackPlan, gate: TarGate): Promise<void> {
  const info = await lstat(payload).catch(() => null);
  // The only thing asked for was a device or a fifo, which the gate left out.
  if (info === null) return;
  const path = at.kind === "directory" && plan.name !== null ? join(at.path, plan.name) : at.path;
  if (at.kind !== "directory" && !info.isDirectory() && typed.endsWith("/")) throw notADirectory(typed);
  const [from, to] = [Buffer.from(payload), Buffer.from(path)];
  await checkPlace(from, to);
  if (at.kind === "file" && at.isShared && info.isFile()) {
    // Renaming over it would part it from its other names. Not for a link: the guest chose where it leads.
    await copyFile(from, to);
    return;
  }
  const merged = new Set<string>();
  await movePlace(from, to, merged);
  const modes = [...gate.directoryModes].sort(([one], [other]) => other.length - one.length);
  for (const [member, mode] of modes) {
    const below = plan.member === "." ? member : member.slice(plan.member.length + 1);
    const dir = below === "" ? to : joinBytes(to, Buffer.from(below, "latin1"));
    if (!merged.has(dir.toString("latin1"))) await chmod(dir, mode);
  }
}

/** What a path of this host is. `special` is written into, as cp does. */
type Place =
  | { readonly kind: "missing" | "directory" | "special"; readonly path: string }
  | { readonly kind: "file"; readonly path: string; readonly isShared: boolean };

/** @throws BangerError FAILED for a link that leads nowhere */
async function lookAt(typed: string): Promise<Place> {
  const path = resolve(typed);
  const info = await stat(path).catch((thrown: unknown) => {
    if (isErrno(thrown, "ENOENT") || isErrno(thrown, "ENOTDIR")) return null;
    throw notThere(typed, thrown);
  });
  if (info === null) {
    if ((await lstat(path).catch(() => null))?.isSymbolicLink() === true)
      throw new BangerError("FAILED", `${typed} is a broken link`, { hint: `ls -ld ${typed}` });
    return { kind: "missing", path };
  }
  if (info.isDirectory()) return { kind: "directory", path };
  // /dev/stdout and its like lead to descriptors, which have no name to be replaced.
  if (!info.isFile() || /^\/(?:dev|proc)\//.test(path)) return { kind: "special", path };
  return { kind: "file", path: await realpath(path), isShared: info.nlink > 1 };
}

function notADirectory(path: string): BangerError {
  return new BangerError("INVALID_VALUE", `${path} is not a directory`);
}

/** The tools' remarks on a copy that worked: sockets and other things left out. */
function warnOf(said: string, out: Output): void {
  const lines = said.split("\n").filter((line) => line !== "");
  for (const line of lines.slice(0, REMARKS)) out.warn(line);
  if (lines.length > REMARKS) out.warn(`and ${lines.length - REMARKS} more`);
}

function warnOfSkipped({ skipped }: TarGate, out: Output): void {
  const named = skipped.map(({ name, kind }) => `skipped ${Buffer.from(name, "latin1").toString("utf8")}: a ${kind}`);
  warnOf(named.map((line) => line.replaceAll("\n", " ")).join("\n"), out);
}

function notThere(path: string, thrown: unknown): unknown {
  if (isErrno(thrown, "ENOENT") || isErrno(thrown, "ENOTDIR"))
    return new BangerError("FAILED", `${path} does not exist`, { hint: `ls -ld ${path}` });
  if (isErrno(thrown, "EACCES") || isErrno(thrown, "EROFS"))
    return new BangerError("FAILED", `${path}: permission denied`, { hint: `ls -ld ${path}` });
  return thrown;
}
