/** How mmdebstrap may run on this host: as root, or in a user namespace. Source: mmdebstrap(1) "MODES", user_namespaces(7). */

import { existsSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { userInfo } from "node:os";
import { BangerError } from "../../shared/errors.ts";
import { toolsFor } from "../../shared/host-needs.ts";
import { toolPath, tryTool } from "../host/run-tool.ts";

export type BuildMode = "root" | "unshare";

/** Ids that a Debian system uses: `nobody` is 65534. */
const IDS_NEEDED = 65536;

/**
 * Checks what a build needs and picks its mode.
 * @throws BangerError TOOL_MISSING or HOST_UNSUPPORTED, with the command that mends it.
 */
export async function chooseBuildMode(signal: AbortSignal): Promise<BuildMode> {
  const rootless = process.getuid?.() !== 0;
  const required = toolsFor("image build", ...(rootless ? (["rootless image build"] as const) : []));
  const missing = required.filter(({ program }) => !isThere(program));
  if (missing.length > 0)
    throw toolMissing(
      missing.map(({ program }) => program),
      missing.map((tool) => tool.package),
    );
  if (!rootless) return "root";

  const user = userInfo();
  for (const file of ["/etc/subuid", "/etc/subgid"]) {
    const table = await readFile(file, "utf8").catch(() => "");
    if (!hasSubordinateIds(table, user.username, user.uid)) {
      throw new BangerError(
        "HOST_UNSUPPORTED",
        `${file} gives ${user.username} fewer than ${IDS_NEEDED} ids in a row, which a build without root needs`,
        {
          hint: `sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 ${user.username}`,
          details: { file, user: user.username },
        },
      );
    }
  }
  const probe = await tryTool(["unshare", "--user", "--map-root-user", "--mount", "true"], {
    timeoutMs: 10_000,
    signal,
  });
  if (probe.exitCode !== 0) {
    throw new BangerError(
      "HOST_UNSUPPORTED",
      `this host does not let unprivileged users create user namespaces (${probe.stderr.trim()})`,
      {
        hint: await userNamespaceFix(),
      },
    );
  }
  return "unshare";
}

/** Whether a subuid(5) table gives the user, by name or number, one range large enough. */
export function hasSubordinateIds(table: string, user: string, uid: number): boolean {
  return table.split("\n").some((line) => {
    const [owner, , count] = line.trim().split(":");
    return (owner === user || owner === String(uid)) && Number(count) >= IDS_NEEDED;
  });
}

/** A program on the PATH, or a file by its path. */
const isThere = (need: string): boolean =>
  need.startsWith("/") ? existsSync(need) : Bun.which(need, { PATH: toolPath() }) !== null;

function toolMissing(programs: readonly string[], packages: readonly string[]): BangerError {
  return new BangerError("TOOL_MISSING", `building an image needs ${programs.join(", ")}`, {
    hint: `sudo apt install ${[...new Set(packages)].join(" ")}`,
    details: { programs },
  });
}

/** The setting that forbids them, of those that distributions have. */
async function userNamespaceFix(): Promise<string> {
  const settings = [
    {
      path: "/proc/sys/kernel/unprivileged_userns_clone",
      forbids: "0",
      fix: "sudo sysctl kernel.unprivileged_userns_clone=1",
    },
    {
      path: "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
      forbids: "1",
      fix: "sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0",
    },
    { path: "/proc/sys/user/max_user_namespaces", forbids: "0", fix: "sudo sysctl user.max_user_namespaces=15000" },
  ];
  for (const { path, forbids, fix } of settings) {
    const value = await readFile(path, "utf8").catch(() => null);
    if (value?.trim() === forbids) return fix;
  }
  return "allow user namespaces on this host, or build the image as root";
}
