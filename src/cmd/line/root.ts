/**
 * Root's command line on an installed system. The owner's daemon may be anything its owner makes of it, and its answers name
 * programs to run: so root asks it nothing and reads nothing of the owner's. Which commands need neither is marked in
 * the command table (`forRoot`).
 */

import { readFileSync } from "node:fs";
import { BangerError, isErrno } from "../../shared/errors.ts";
import { quote } from "../../shared/remote-command.ts";

export interface Owner {
  readonly uid: number;
  readonly name: string;
}

/**
 * The owner in install.toml; null when nothing is installed. Only root writes the file; the daemons check all of it, and its
 * schema would cost every command. @throws BangerError CONFIG_INVALID
 */
export function readOwner(installFile: string): Owner | null {
  let text: string;
  try {
    text = readFileSync(installFile, "utf8");
  } catch (thrown) {
    if (isErrno(thrown, "ENOENT") || isErrno(thrown, "EACCES")) return null;
    throw thrown;
  }
  let document: { readonly owner?: { readonly uid?: unknown; readonly name?: unknown } };
  try {
    document = Bun.TOML.parse(text) as typeof document;
  } catch (thrown) {
    throw new BangerError("CONFIG_INVALID", `${installFile} is not TOML: ${(thrown as Error).message}`);
  }
  const { uid, name } = document.owner ?? {};
  if (typeof uid === "number" && typeof name === "string") return { uid, name };
  throw new BangerError("CONFIG_INVALID", `${installFile} names no owner`, { hint: "sudo banger system install" });
}

/** The owner whom a process of that uid must not obey: the installed system's, for root. Null when there is none. */
export function distrustedOwner(uid: number, owner: Owner | null): Owner | null {
  return uid === 0 && owner !== null && owner.uid !== 0 ? owner : null;
}

/** The refusal of a command line, with the one to type instead. */
export function refuseRoot({ name }: Owner, argv: readonly string[]): BangerError {
  const command = ["sudo", "-u", name, "banger", ...argv].map(quote).join(" ");
  return new BangerError("NOT_OWNER", `root can't use the VMs of ${name}: run this as ${name}`, {
    hint: command,
  });
}
