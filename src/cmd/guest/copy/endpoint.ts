/** The two ends of a copy, and how a path is packed. */

import { posix } from "node:path";
import { BangerError } from "../../../shared/errors.ts";

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

/** Relative to /root, as a shell there would have it; a last `.` or `..` asks for the contents and stays visible. */
export function guestPath(path: string): string {
  const absolute = /^~(?:\/|$)/.test(path) ? posix.join("/root", path.slice(1)) : posix.resolve("/root", path);
  const plain = absolute.length > 1 ? absolute.replace(/\/$/, "") : absolute;
  if (isContents(path)) return plain === "/" ? "/." : `${plain}/.`;
  return path.endsWith("/") && plain !== "/" ? `${plain}/` : plain;
}

const isContents = (path: string): boolean => /(?:^|\/)\.\.?\/*$/.test(path);

/** How a path is packed: in `dir`, the member `member`. */
export interface PackPlan {
  readonly dir: string;
  readonly member: string;
  /** The name the copy gets in an existing directory; null for the contents of `dir`. */
  readonly name: string | null;
}

/**
 * As cp has it: `foo/.` is what `foo` holds, and `link/` the directory that the link leads to.
 * @throws BangerError INVALID_VALUE for the whole file system
 */
export function planPack(path: string, typed: string): PackPlan {
  const plain = posix.resolve(path);
  const name = posix.basename(plain);
  if (name === "")
    throw new BangerError("INVALID_VALUE", `${typed} can't be copied as a whole: name a directory in it`);
  if (isContents(path)) return { dir: plain, member: ".", name: null };
  if (path.endsWith("/")) return { dir: plain, member: ".", name };
  return { dir: posix.dirname(plain), member: name, name };
}
