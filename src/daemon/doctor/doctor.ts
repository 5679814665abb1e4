/** What the daemon can say about this host: each row with the exact fix. */

import { access, constants, lstat, statfs } from "node:fs/promises";
import { dirname } from "node:path";
import { toBangerError } from "../../shared/errors.ts";
import { restartCommand } from "../../shared/places/paths.ts";
import { formatBytes } from "../../shared/text/sizes.ts";
import type { DoctorRow } from "../../shared/contract/schemas.ts";
import { examineClock } from "./clock.ts";
import { examineTools } from "./tools.ts";
import type { HostEngine } from "../engine/engine.ts";
import { chooseBuildMode } from "../image/build-mode.ts";
import { detectConfinement } from "../host/run-tool.ts";
import { findLeftovers } from "../vm/gc.ts";
import type { VmParts } from "../vm/records.ts";

const LOW_SPACE_BYTES = 2 * 1024 ** 3;
const VERY_LOW_SPACE_BYTES = 256 * 1024 ** 2;

/** What of the daemon the rows are about. */
export type Examined = Pick<VmParts, "paths" | "config" | "images" | "vms"> & { readonly engine: HostEngine };

const pass = (check: string, message: string): DoctorRow => ({ check, level: "PASS", message, fix: null });

/** Rows in a stable order; FAIL only for what keeps VMs from running. */
export async function examineHost(parts: Examined, signal: AbortSignal): Promise<readonly DoctorRow[]> {
  const groups = await Promise.all([
    parts.engine.examine(signal),
    examineTools("vm"),
    examineImageBuild(signal),
    examineConfinement(),
    examineSockets(parts),
    examineSpace(parts),
    examineImages(parts),
    examineLeftovers(parts),
    examineTime(parts, signal),
    examineAgents(parts),
  ]);
  return groups.flat();
}

async function examineConfinement(): Promise<DoctorRow[]> {
  const { kind, reason } = await detectConfinement();
  if (kind === "namespaces") return [pass("confinement", "what others wrote is read in namespaces of its own")];
  return [
    {
      check: "confinement",
      level: "WARN",
      message: `imported images and kernels are read without separate namespaces: ${reason}`,
      fix: "register and import only images and kernels that you trust",
    },
  ];
}

async function examineImageBuild(signal: AbortSignal): Promise<DoctorRow[]> {
  try {
    const mode = await chooseBuildMode(signal);
    return [pass("image build", mode === "root" ? "mmdebstrap as root" : "mmdebstrap in a user namespace")];
  } catch (thrown) {
    const { message, hint } = toBangerError(thrown);
    return [{ check: "image build", level: "WARN", message, fix: hint ?? null }];
  }
}

async function examineSockets({ paths }: Examined): Promise<DoctorRow[]> {
  const rows: DoctorRow[] = [];
  for (const [path, mode] of [
    [paths.runtimeDir, 0o700],
    [paths.apiSocket, 0o600],
    [paths.stateDir, 0o700],
  ] as const) {
    const info = await lstat(path).catch(() => null);
    if (info === null) {
      rows.push({ check: `mode ${path}`, level: "FAIL", message: "is missing", fix: restartCommand(paths.mode) });
    } else if ((info.mode & 0o777 & ~mode) !== 0) {
      const octal = (info.mode & 0o777).toString(8);
      rows.push({
        check: `mode ${path}`,
        level: "FAIL",
        message: `is ${octal}, looser than ${mode.toString(8)}`,
        fix: `chmod ${mode.toString(8)} ${path}`,
      });
    } else {
      rows.push(pass(`mode ${path}`, (info.mode & 0o777).toString(8)));
    }
  }
  return rows;
}

async function examineSpace({ paths }: Examined): Promise<DoctorRow[]> {
  const rows: DoctorRow[] = [];
  for (const path of [paths.stateDir, "/var/tmp"]) {
    const { bavail, bsize } = await statfs(path);
    const free = bavail * bsize;
    const check = `space ${path}`;
    if (free >= LOW_SPACE_BYTES) rows.push(pass(check, `${formatBytes(free)} free`));
    else {
      rows.push({
        check,
        level: free < VERY_LOW_SPACE_BYTES ? "FAIL" : "WARN",
        message: `only ${formatBytes(free)} free`,
        fix: "banger vm prune; banger gc",
      });
    }
  }
  const writable = await access(dirname(paths.database), constants.W_OK).then(
    () => true,
    () => false,
  );
  if (!writable)
    rows.push({
      check: "store",
      level: "FAIL",
      message: `${paths.stateDir} can't be written`,
      fix: `ls -ld ${paths.stateDir}`,
    });
  else rows.push(pass("store", paths.database));
  return rows;
}

async function examineImages({ images, config }: Examined): Promise<DoctorRow[]> {
  const name = config.default_image;
  if (images.has(name)) return [pass("image", `${name} is there`)];
  return [
    {
      check: "image",
      level: "WARN",
      message: `${name} is not built yet; the first run builds it`,
      fix: `banger image build ${name}`,
    },
  ];
}

async function examineTime({ images }: Examined, signal: AbortSignal): Promise<DoctorRow[]> {
  // An image that can't be read says nothing about the clock, and is said elsewhere.
  const made = await images.list().catch(() => []);
  return [await examineClock(made, signal)];
}

function examineAgents({ vms }: Examined): DoctorRow[] {
  const started = vms.list().filter(({ state, agent }) => state === "running" && agent !== null);
  const silent = started.filter(({ agent }) => agent === "silent").map(({ name }) => name);
  if (silent.length === 0) return [pass("guest agents", `${started.length} answer`)];
  return [
    {
      check: "guest agents",
      level: "WARN",
      message: `no answer from the agent in ${silent.join(", ")}; exec and cp go over ssh there, which is slower`,
      fix: `banger vm restart ${silent.join(" ")}`,
    },
  ];
}

async function examineLeftovers(parts: Examined): Promise<DoctorRow[]> {
  let found;
  try {
    found = await findLeftovers(parts);
  } catch (thrown) {
    const { message, hint } = toBangerError(thrown);
    return [{ check: "leftovers", level: "WARN", message: `could not be searched for: ${message}`, fix: hint ?? null }];
  }
  if (found.length === 0) return [pass("leftovers", "none")];
  return [
    { check: "leftovers", level: "WARN", message: `${found.length} leftovers that belong to no VM`, fix: "banger gc" },
  ];
}
