/**
 * What a copy runs in the guest: scripts that never change, given to `sh` with their values as arguments. So no value is ever read as
 * part of a script, and each copy starts one program in the guest, which asks and does everything there.
 */

import type { PackPlan } from "./endpoint.ts";

/** Owners are those of whoever unpacks, as with cp; modes and times are kept. */
export const UNPACK = ["-x", "-p", "--no-same-owner", "-f", "-"] as const;
/** Keeps holes, in a form that {@link TarGate} reads too. */
export const PACK_SPARSE = ["--format=pax", "-S"] as const;
/** The guest's tar can't unpack holes. Told before anything was read. */
export const NO_SPARSE = 99;

/** GNU's tar takes options from this variable, and others ignore it: so nobody has to ask which tar it is. */
const setTarOptions = (...options: readonly string[]): string =>
  `TAR_OPTIONS='${options.join(" ")}'; export TAR_OPTIONS`;
/** 64 KiB for each read and write, which cost more than their bytes in an emulated guest. */
const RECORD = "--blocking-factor=128";
/**
 * On both sides. Attributes are those that users set: the others are the system's, capabilities, labels, access lists. Nobody unpacks the
 * two times, and an emulated guest takes as long for them as for a file's name.
 */
export const GNU_OPTIONS = [
  ...["--xattrs", "--xattrs-include=user.*"],
  "--pax-option=delete=atime,delete=ctime",
] as const;
const FAIL = 'fail() { printf "%s\\n" "$1" >&2; exit 1; }';

/** What the scripts' arguments are counted from. */
const script = (lines: readonly string[], ...args: readonly string[]): string[] => [
  "sh",
  "-c",
  lines.join("\n"),
  "banger-cp",
  ...args,
];

const UNPACK_SCRIPT = [
  FAIL,
  "target=$1 name=$2 contents=$3 sparse=$4 several=$5",
  `if [ "$sparse" ]; then case $(tar --version 2>/dev/null) in *GNU*) ;; *) exit ${NO_SPARSE};; esac; fi`,
  'if [ "$several" ] && ! [ -d "$target" ]; then fail "several sources need a directory, and $target is not one"; fi',
  "t=${target%/}; s=",
  'if [ -d "$target" ]; then a=$target; [ -z "$name" ] || t=$t/$name',
  'elif [ -f "$t" ]; then if [ -L "$t" ]; then t=$(readlink -f -- "$t"); fi; a=${t%/*}; [ "$(stat -c %h -- "$t")" = 1 ] || s=1',
  'elif [ -e "$t" ]; then a=/tmp; s=1',
  'elif [ -L "$t" ]; then fail "$target is a broken link"',
  "else a=${t%/*}; fi",
  'd=$(mktemp -d -- "${a:-/}/.banger-cp-XXXXXXXX") || exit 1',
  // What ends the copy must not end the tidying up. The shell itself writes of tar's death to a stderr that nobody reads any more.
  "trap '' PIPE",
  `trap 'trap "" HUP INT TERM; rm -rf -- "$d"' EXIT; trap 'trap "" HUP INT TERM; exit 1' HUP INT TERM`,
  // The member `.` gives its mode to the directory it is unpacked in.
  'if [ "$contents" ]; then r=$d/t p=$d/t; mkdir "$r" || exit 1; else r=$d p=$d/$name; fi',
  setTarOptions(RECORD, ...GNU_OPTIONS),
  `tar ${UNPACK.join(" ")} -C "$r" || exit 1`,
  'case $target in */) [ -d "$p" ] || [ -d "$target" ] || fail "$target is not a directory";; esac',
  'if [ "$s" ]; then [ -f "$p" ] || fail "$target is not a directory"; cat -- "$p" > "$t" || exit 1',
  'elif [ -d "$p" ] && [ -d "$t" ] && [ ! -L "$t" ]; then m=$(stat -c %a -- "$t")',
  'cp -dRl --preserve=mode,timestamps --remove-destination -- "$p/." "$t" 2>/dev/null || cp -dRpf -- "$p/." "$t"; r=$?; chmod "$m" "$t"; exit $r',
  'else mv -T -- "$p" "$t" || exit 1; fi',
];

/**
 * Unpacks a copy beside its target and then puts it there: an archive that breaks off leaves nothing. A file replaces a file in one
 * step, keeps the links that lead to it, and is written into a device or a fifo.
 */
export function unpackArgv(
  target: string,
  { member, name }: PackPlan,
  { isSparse, isOneOfSeveral }: { readonly isSparse: boolean; readonly isOneOfSeveral: boolean },
): string[] {
  const flag = (is: boolean): string => (is ? "1" : "");
  return script(UNPACK_SCRIPT, target, name ?? "", flag(member === "."), flag(isSparse), flag(isOneOfSeveral));
}

const UNPACK_STREAM_SCRIPT = [
  setTarOptions(RECORD, ...GNU_OPTIONS),
  `mkdir -p -- "$1" && exec tar ${UNPACK.join(" ")} -C "$1"`,
];

/** Unpacks a stream in a directory, which it makes. */
export function unpackStreamArgv(target: string): string[] {
  return script(UNPACK_STREAM_SCRIPT, target);
}

const PACK_SCRIPT = [
  'cd -- "$1" || exit 1',
  'h=; if [ -L "$2" ] && [ -f "$2" ]; then h=-h; fi',
  setTarOptions(RECORD, ...GNU_OPTIONS, ...PACK_SPARSE),
  'exec tar -c $h -f - -- "$2"',
];

/** Packs a path; a link to a file as the file. */
export function packArgv({ dir, member }: PackPlan): string[] {
  return script(PACK_SCRIPT, dir, member);
}

const CAT_SCRIPT = [FAIL, 'cd -- "$1" || exit 1', '[ -f "$2" ] || fail "$2 is not a file"', 'exec cat -- "$2"'];

/** Writes one file's contents. */
export function catArgv({ dir, member }: PackPlan): string[] {
  return script(CAT_SCRIPT, dir, member);
}
