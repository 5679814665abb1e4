/**
 * Error codes and exit statuses: the one table. The CLI's exit status, `banger explain`, the API's
 * error documents and the reference page all derive from it.
 */

interface ErrorRow {
  /** Process exit status (product.md "Exit status"). */
  readonly exit: number;
  /** One sentence for `banger explain CODE`. */
  readonly summary: string;
  /** The next command to type, when it is the same for every occurrence. */
  readonly hint?: string;
}

export const ERROR_TABLE = {
  FAILED: { exit: 1, summary: "The operation failed; the message says why." },
  CANCELLED: { exit: 1, summary: "The operation was cancelled, and its work was undone." },
  GUEST_NOT_READY: {
    exit: 1,
    summary: "The guest did not become ready in time. The VM is kept running so that its console can be read.",
  },
  GUEST_FAILED: { exit: 1, summary: "A command banger ran inside the guest failed." },
  VMM_FAILED: { exit: 1, summary: "The virtual machine monitor failed to start or stopped unexpectedly." },
  IMAGE_BUILD_FAILED: { exit: 1, summary: "The image could not be built." },
  KERNEL_INVALID: { exit: 1, summary: "The file contains no kernel that banger can extract or boot." },
  NOT_YET: { exit: 1, summary: "This command is planned but not available yet." },
  SOME_FAILED: { exit: 1, summary: "Some items failed; the others succeeded." },

  USAGE: { exit: 2, summary: "The command line is wrong; the message names the part.", hint: "banger --help" },
  INVALID_NAME: { exit: 2, summary: "Names are 1 to 63 of a-z, 0-9 and hyphen, with no hyphen at either end." },
  INVALID_VALUE: { exit: 2, summary: "A value is not valid for its flag or field." },
  CONFIG_INVALID: {
    exit: 2,
    summary: "A configuration file contains an unknown key or a wrong value.",
    hint: "banger config",
  },
  INVALID_REQUEST: { exit: 2, summary: "A request to the daemon did not match the API's schema." },

  NOT_OWNER: {
    exit: 10,
    summary: "Only the owner may do this. Root is not the owner; use sudo -u OWNER.",
  },
  NEEDS_ROOT: { exit: 11, summary: "This command needs root." },
  UNSAFE_DIRECTORY: {
    exit: 12,
    summary: "A directory that must be private is a link, is not a directory, or belongs to another user.",
  },
  NO_ACCESS: {
    exit: 14,
    summary: "You may not read or write a file or directory that banger needs; the message names it.",
  },
  NOT_A_FILE: {
    exit: 15,
    summary: "A path has the wrong type, such as a directory instead of a file.",
  },
  HELPER_REFUSED: { exit: 13, summary: "The root helper refused the request." },

  VM_NOT_FOUND: { exit: 20, summary: "No VM has that name or id.", hint: "banger vm list -a" },
  IMAGE_NOT_FOUND: { exit: 20, summary: "No image has that name.", hint: "banger image list" },
  IMAGE_NOT_BUILT: {
    exit: 20,
    summary: "The image is not built yet. On an installed system, the owner builds it with banger image build.",
  },
  KERNEL_NOT_FOUND: { exit: 20, summary: "No kernel has that name.", hint: "banger kernel list" },
  OPERATION_NOT_FOUND: {
    exit: 20,
    summary: "No operation has that id. Finished operations are forgotten after a while.",
  },
  FORWARD_NOT_FOUND: {
    exit: 20,
    summary: "This host's port is not forwarded to that VM.",
    hint: "banger vm ports",
  },
  ALREADY_EXISTS: { exit: 21, summary: "The name is already in use." },
  WRONG_STATE: { exit: 22, summary: "The VM's state does not allow this operation." },
  AMBIGUOUS: { exit: 23, summary: "The id prefix matches several VMs; use a longer one." },
  IN_USE: { exit: 24, summary: "Something still uses it; the message says what." },

  NO_KVM: {
    exit: 30,
    summary: "Hardware virtualization is needed but not usable on this host.",
    hint: "banger doctor",
  },
  TOOL_MISSING: { exit: 30, summary: "A program that banger needs is not installed.", hint: "banger doctor" },
  NO_SPACE: { exit: 31, summary: "The disk is full.", hint: "banger gc" },
  READ_ONLY: { exit: 31, summary: "A file system that banger must write to is read-only; the message names the path." },
  OUTPUT_FAILED: { exit: 31, summary: "The output could not be written, for example because the disk is full." },
  HOST_UNSUPPORTED: { exit: 32, summary: "This host lacks something that banger needs.", hint: "banger doctor" },

  NETWORK: { exit: 40, summary: "A download failed." },
  DIGEST_MISMATCH: { exit: 41, summary: "A downloaded file does not have the expected digest." },
  ARCHIVE_FAILED: {
    exit: 42,
    summary: "The Debian archive can't be reached, or its signature is not valid.",
  },

  DAEMON_UNREACHABLE: { exit: 50, summary: "The owner daemon does not answer.", hint: "banger daemon logs" },
  HELPER_UNREACHABLE: { exit: 50, summary: "The root helper does not answer.", hint: "banger system status" },
  VERSION_MISMATCH: {
    exit: 51,
    summary: "The CLI and the daemon have incompatible versions.",
    hint: "banger daemon stop",
  },
  STORE_TOO_NEW: { exit: 52, summary: "The database was written by a newer banger." },

  INTERNAL: { exit: 70, summary: "This is a bug in banger. Report the message and the operation id." },

  EXEC_TIMEOUT: { exit: 124, summary: "The guest command ran longer than --timeout and was stopped." },
  EXEC_FAILED: { exit: 125, summary: "banger could not run the guest command, or lost the connection to it." },
} as const satisfies Record<string, ErrorRow>;

export type ErrorCode = keyof typeof ERROR_TABLE;

/** The form in which an error crosses the API and `--json`. `op` is the operation id in the daemon's log. */
export interface ErrorDocument {
  readonly code: ErrorCode;
  readonly message: string;
  readonly details?: Readonly<Record<string, unknown>>;
  readonly hint?: string;
  readonly op?: string;
}

export interface ErrorOptions {
  readonly details?: Readonly<Record<string, unknown>>;
  readonly hint?: string;
  readonly op?: string;
  readonly cause?: unknown;
}

/** Every failure a user may meet: a code of {@link ERROR_TABLE}, a message, data, the next command. */
export class BangerError extends Error {
  override readonly name = "BangerError";
  readonly code: ErrorCode;
  readonly details: Readonly<Record<string, unknown>> | undefined;
  readonly hint: string | undefined;
  readonly op: string | undefined;

  constructor(code: ErrorCode, message: string, options: ErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.details = options.details;
    const row: ErrorRow = ERROR_TABLE[code];
    this.hint = options.hint ?? row.hint;
    this.op = options.op;
  }

  toDocument(): ErrorDocument {
    return {
      code: this.code,
      message: this.message,
      ...(this.details === undefined ? {} : { details: this.details }),
      ...(this.hint === undefined ? {} : { hint: this.hint }),
      ...(this.op === undefined ? {} : { op: this.op }),
    };
  }

  static fromDocument(document: ErrorDocument): BangerError {
    return new BangerError(document.code, document.message, document);
  }
}

/** Turns anything thrown into a {@link BangerError}; what nobody expected becomes INTERNAL. */
export function toBangerError(thrown: unknown, op?: string): BangerError {
  if (thrown instanceof BangerError) {
    if (op === undefined || thrown.op !== undefined) return thrown;
    return new BangerError(thrown.code, thrown.message, { ...thrown.toDocument(), op, cause: thrown.cause });
  }
  const ofFiles = fileErrorCode(thrown);
  if (ofFiles !== null) {
    const { message, path } = thrown as NodeJS.ErrnoException;
    const hint = path === undefined || ofFiles === "NO_SPACE" ? undefined : `ls -ld ${path}`;
    return new BangerError(ofFiles, message, {
      cause: thrown,
      ...(hint === undefined ? {} : { hint }),
      ...(op === undefined ? {} : { op }),
    });
  }
  if (isErrno(thrown, "ENOENT") && thrown.message.startsWith(PROGRAM_MISSING)) {
    const message = `${thrown.path ?? "a program"} is not installed, but banger needs it`;
    return new BangerError("TOOL_MISSING", message, { cause: thrown, ...(op === undefined ? {} : { op }) });
  }
  if (thrown instanceof DOMException && thrown.name === "AbortError") {
    return new BangerError("CANCELLED", "cancelled", { cause: thrown, ...(op === undefined ? {} : { op }) });
  }
  const message = thrown instanceof Error ? thrown.message : String(thrown);
  return new BangerError("INTERNAL", message, { cause: thrown, ...(op === undefined ? {} : { op }) });
}

/** How Bun's message begins when there is no such program. */
const PROGRAM_MISSING = "Executable not found in $PATH";

/** The same failure, naming the file: a read through a descriptor doesn't know it. */
export function withPath(thrown: unknown, path: string): unknown {
  if (fileErrorCode(thrown) !== null && (thrown as NodeJS.ErrnoException).path === undefined)
    return Object.assign(thrown as Error, { path, message: `${(thrown as Error).message}, ${path}` });
  return thrown;
}

/** Codes of system calls and of SQLite that say something about the host's files, not about banger. */
const FILE_ERRORS: Readonly<Record<string, ErrorCode>> = {
  ENOSPC: "NO_SPACE",
  EDQUOT: "NO_SPACE",
  SQLITE_FULL: "NO_SPACE",
  EROFS: "READ_ONLY",
  SQLITE_READONLY: "READ_ONLY",
  EACCES: "NO_ACCESS",
  EPERM: "NO_ACCESS",
  EISDIR: "NOT_A_FILE",
  ENOTDIR: "NOT_A_FILE",
  ELOOP: "NOT_A_FILE",
  SQLITE_PERM: "NO_ACCESS",
};

/** What a failed file operation means to the user; null for any other failure. */
export function fileErrorCode(thrown: unknown): ErrorCode | null {
  const code = thrown instanceof Error ? (thrown as NodeJS.ErrnoException).code : undefined;
  return code !== undefined && Object.hasOwn(FILE_ERRORS, code) ? (FILE_ERRORS[code] ?? null) : null;
}

export function exitStatusOf(code: ErrorCode): number {
  return ERROR_TABLE[code].exit;
}

/** True for a system call error of the given errno name (`ENOENT`, `EEXIST`, …). */
export function isErrno(thrown: unknown, errno: string): thrown is NodeJS.ErrnoException {
  return thrown instanceof Error && (thrown as NodeJS.ErrnoException).code === errno;
}
