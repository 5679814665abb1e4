/** The host's accounts, as far as install needs them. Source: passwd(5), group(5), subuid(5). */

import { readFile } from "node:fs/promises";
import { BangerError, isErrno } from "../../../shared/errors.ts";
import type { InstallConfig } from "../../../shared/install-config.ts";
import { tryRootTool } from "./root-tool.ts";
import type { IdTables } from "./reserved-ids.ts";

const TOOL_TIMEOUT_MS = 30_000;
const NAME = /^[a-z_][a-z0-9_-]{0,31}$/;

/**
 * The account, from whatever the host asks (files, LDAP).
 * @throws BangerError USAGE for nobody of that name, and for root, who needs no owner's daemon
 */
export async function findOwner(name: string): Promise<InstallConfig["owner"]> {
  const usage = (message: string): BangerError =>
    new BangerError("USAGE", message, { hint: "sudo banger system install --owner $USER" });
  if (!NAME.test(name)) throw usage(`${name} is not a valid user name`);
  const { status, stdout } = await tryRootTool(["getent", "passwd", name], TOOL_TIMEOUT_MS);
  const [found, , uid, gid] = stdout.trim().split(":");
  if (status !== 0 || found !== name) throw usage(`there is no user ${name}`);
  if (Number(uid) === 0 || Number(gid) === 0) throw usage("root can't be the owner: name the user who will use banger");
  return { name, uid: Number(uid), gid: Number(gid) };
}

/** Everything that could name an id in use. */
export async function readIdTables(): Promise<IdTables> {
  const asked = await Promise.all(
    ["passwd", "group"].map(async (table) => (await tryRootTool(["getent", table], TOOL_TIMEOUT_MS)).stdout),
  );
  const files = await Promise.all(["/etc/passwd", "/etc/group", "/etc/subuid", "/etc/subgid"].map(readIfThere));
  return { accounts: [...asked, ...files.slice(0, 2)], subordinates: files.slice(2) };
}

async function readIfThere(path: string): Promise<string> {
  try {
    return await readFile(path, "utf8");
  } catch (thrown) {
    if (isErrno(thrown, "ENOENT")) return "";
    throw thrown;
  }
}
