/**
 * Programs that parse what a guest, or whoever made a foreign image, has written: a file system made to take e2fsck over must gain
 * nothing by it. Sources: user_namespaces(7), unshare(1), setpriv(1), prlimit(1).
 */

import script from "./confined.sh" with { type: "text" };

/** What a confined program may use besides the system's own programs. Paths absolute, of files and directories that exist. */
export interface Confinement {
  readonly reads?: readonly string[];
  readonly writes?: readonly string[];
  /** How many processes and threads at once, itself included; 1 unless told. Not enforced for the host's root. */
  readonly processes?: number;
  /** Address space of each process; by default many times what e2fsck takes for the largest image. */
  readonly memoryBytes?: number;
}

const MEMORY_BYTES = 1024 ** 3;
/** Directories to build its view of the file system on: one that holds nothing it is to see. */
const STAGES = ["/mnt", "/media", "/srv", "/opt"] as const;

/** In namespaces of its own: no network, no other process, no file but those named, no privilege; it ends with the first process. */
export function namespacedArgv(argv: readonly string[], confinement: Confinement): readonly string[] {
  const { writes = [], processes = 1 } = confinement;
  const [program = ""] = argv;
  // A user's PATH may lead to tools of their own.
  const reads = [...(confinement.reads ?? []), ...(program.startsWith("/") ? [program] : [])];
  const seen = [...reads, ...writes];
  const stage = STAGES.find((path) => !seen.some((each) => each === path || each.startsWith(`${path}/`)));
  return [
    ...["unshare", "--user", "--map-root-user", "--mount", "--pid", "--net", "--ipc", "--uts"],
    ...["--fork", "--kill-child=KILL", "--"],
    ...["sh", "-c", script, "sh", stage ?? STAGES[0]],
    ...reads.flatMap((path) => ["ro", path]),
    ...writes.flatMap((path) => ["rw", path]),
    ...["--", ...limits(confinement, [`--nproc=${processes}`]), ...argv],
  ];
}

/** Where the host allows no such namespaces: bounds and no way to more privilege, and killed as its process group. */
export function limitedArgv(argv: readonly string[], confinement: Confinement): readonly string[] {
  return [...limits(confinement, []), "setpriv", "--no-new-privs", "--", ...argv];
}

const limits = ({ memoryBytes = MEMORY_BYTES }: Confinement, more: readonly string[]): readonly string[] => [
  "prlimit",
  `--as=${memoryBytes}`,
  "--core=0",
  ...more,
  "--",
];
