/** The shell lines that a copy runs in the guest. Every value in them is quoted on its own. */

import { quote } from "../../../shared/remote-command.ts";
import type { PackPlan } from "./endpoint.ts";

/** Owners are those of whoever unpacks, as with cp; modes and times are kept. */
export const UNPACK = ["-x", "-p", "--no-same-owner", "-f", "-"] as const;
/** Keeps holes, in a form that {@link TarGate} reads too. */
export const PACK_SPARSE = ["--format=pax", "-S"] as const;
/** The guest's tar can't unpack holes. Told before anything was read. */
export const NO_SPARSE = 99;

const IS_GNU = "case $(tar --version 2>/dev/null) in *GNU*) ";

/**
 * The line that unpacks a copy beside its target and then puts it there: an archive that breaks off leaves nothing. A
 * file replaces a file in one step, keeps the links that lead to it, and is written into a device or a fifo.
 */
export function unpackLine(
  target: string,
  { member, name }: PackPlan,
  { isSparse, isOneOfSeveral }: { readonly isSparse: boolean; readonly isOneOfSeveral: boolean },
): string {
  // The member `.` gives its mode to the directory it is unpacked in.
  const [root, payload] = member === "." ? ['"$d/t"', '"$d/t"'] : ['"$d"', `"$d/$2"`];
  return [
    `set -- ${[target, name ?? ""].map(quote).join(" ")}`,
    ...(isSparse ? [`${IS_GNU};; *) exit ${NO_SPARSE};; esac`] : []),
    'fail() { printf "%s\\n" "$1" >&2; exit 1; }',
    ...(isOneOfSeveral ? ['[ -d "$1" ] || fail "several sources need a directory, and $1 is not one"'] : []),
    "t=${1%/}; s=",
    'if [ -d "$1" ]; then a=$1; [ -z "$2" ] || t=$t/$2',
    'elif [ -f "$t" ]; then if [ -L "$t" ]; then t=$(readlink -f -- "$t"); fi; a=${t%/*}; [ "$(stat -c %h -- "$t")" = 1 ] || s=1',
    'elif [ -e "$t" ]; then a=/tmp; s=1',
    'elif [ -L "$t" ]; then fail "$1 is a broken link"',
    "else a=${t%/*}; fi",
    'd=$(mktemp -d -- "${a:-/}/.banger-cp-XXXXXXXX") || exit 1',
    `trap 'rm -rf -- "$d"' EXIT; trap 'exit 1' HUP INT TERM`,
    ...(member === "." ? ['mkdir "$d/t" || exit 1'] : []),
    `tar ${UNPACK.join(" ")} -C ${root} || exit 1`,
    `p=${payload}; case $1 in */) [ -d "$p" ] || fail "$1 is not a directory";; esac`,
    'if [ -n "$s" ]; then [ -f "$p" ] || fail "$1 is not a directory"; cat -- "$p" > "$t" || exit 1',
    'elif [ -d "$p" ] && [ -d "$t" ] && [ ! -L "$t" ]; then m=$(stat -c %a -- "$t")',
    'cp -dRl --preserve=mode,timestamps --remove-destination -- "$p/." "$t" 2>/dev/null || cp -dRpf -- "$p/." "$t"; r=$?; chmod "$m" "$t"; exit $r',
    'else mv -T -- "$p" "$t" || exit 1; fi',
  ].join("; ");
}

/** The line that packs a path; a link to a file as the file. */
export function packLine({ dir, member }: PackPlan): string {
  return [
    `set -- ${[dir, member].map(quote).join(" ")}`,
    'cd -- "$1" || exit 1',
    'h=; [ -L "$2" ] && [ -f "$2" ] && h=-h',
    `o=; ${IS_GNU}o=${quote(PACK_SPARSE.join(" "))};; esac`,
    'exec tar -c $h $o -f - -- "$2"',
  ].join("; ");
}

/** The line that writes one file's contents. */
export function catLine({ dir, member }: PackPlan): string {
  return [
    `set -- ${[dir, member].map(quote).join(" ")}`,
    'cd -- "$1" || exit 1',
    '[ -f "$2" ] || { printf "%s is not a file\\n" "$2" >&2; exit 1; }',
    'exec cat -- "$2"',
  ].join("; ");
}
