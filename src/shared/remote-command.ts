/**
 * The one command line that carries a guest command over ssh. sshd gives it to root's shell as
 * `shell -c LINE`, so every argument is quoted on its own; nothing else ever interprets it. POSIX shell only,
 * and as few processes as possible: starting one costs 30 to 60 ms where the guest's CPU is emulated.
 */

/** Where the guest keeps the mark of a command that ended with 255. On tmpfs, root's. */
const EXEC_DIR = "/run/banger-exec";

const SAFE_WORD = /^[A-Za-z0-9_\-+=:,./@%]+$/;
const EXEC_ID = /^[0-9a-f]{1,32}$/;
const ENV_NAME = /^[A-Za-z_][A-Za-z0-9_]*$/;

/** Quotes one argument for a POSIX shell (XCU 2.2.2: inside single quotes nothing is special but the quote). */
export function quote(argument: string): string {
  return SAFE_WORD.test(argument) ? argument : `'${argument.replaceAll("'", "'\\''")}'`;
}

export interface RemoteExec {
  /** Hex digits; names this exec to {@link remoteSignalCommand}. */
  readonly execId: string;
  readonly workDir: string;
  readonly argv: readonly string[];
  /** `NAME=value` pairs on top of the login shell's environment. */
  readonly env: readonly (readonly [name: string, value: string])[];
}

/** Status the wrapper leaves with when it can't enter the directory; the message says which. */
const EXEC_NO_DIRECTORY = 125;

/** What a login shell reads, in bash's order: /etc/profile, then the first of three in the home directory (bash(1) INVOCATION). */
const LOGIN =
  "[ -r /etc/profile ] && . /etc/profile; " +
  "if [ -r ~/.bash_profile ]; then . ~/.bash_profile; elif [ -r ~/.bash_login ]; then . ~/.bash_login; elif [ -r ~/.profile ]; then . ~/.profile; fi";

/** The first words of an exec's line, by which {@link remoteSignalCommand} finds it in /proc. */
const marker = (execId: string): string => `: banger-exec ${checkedId(execId)};`;

/**
 * A line that runs `argv` as a login shell would and ends with its status: 128+n after signal n, 127 not found, 126 not executable.
 *
 * sshd starts the line in a session of its own, so its process id is the process group of all it starts. The wrapper
 * outlives INT, TERM, HUP and QUIT (the traps, which the command itself does not inherit), so that it can report the command's own
 * status. ssh itself ends with 255 when the connection fails, so a command that ends with 255 leaves a mark, see
 * {@link remoteStatusCommand}.
 * @throws TypeError for an execId or variable name that isn't one
 */
export function remoteExecCommand(exec: RemoteExec): string {
  for (const [name] of exec.env) if (!ENV_NAME.test(name)) throw new TypeError(`not a variable name: ${name}`);
  // Not `exec --`, which dash does not know; only a name that begins like an option needs help.
  const command = exec.argv[0]?.startsWith("-") === true ? 'env -- "$@"' : '"$@"';
  return [
    `${marker(exec.execId)} ${LOGIN}`,
    // A profile's settings are for its own commands, not for these.
    "set +eu",
    ...exec.env.map(([name, value]) => `export ${name}=${quote(value)}`),
    `cd -- ${quote(exec.workDir)} || exit ${EXEC_NO_DIRECTORY}`,
    `set -- ${exec.argv.map(quote).join(" ")}`,
    "trap : INT TERM HUP QUIT",
    // The wrapper's own stderr goes nowhere while it waits: the shell would print "Terminated".
    "exec 9>&2 2>/dev/null",
    // With mise in the guest, its tools' versions hold for the command.
    `if command -v mise >/dev/null; then (exec mise exec -- "$@") 2>&9 9>&-; else (exec ${command}) 2>&9 9>&-; fi`,
    "s=$?",
    `[ $s = 255 ] && mkdir -p -m 700 ${EXEC_DIR} && : > ${EXEC_DIR}/${exec.execId}.255`,
    "exit $s",
  ].join("; ");
}

/** Sends a signal to everything an exec started. Ends with 0 also when it is gone already. */
export function remoteSignalCommand(execId: string, signal: "INT" | "TERM" | "HUP" | "QUIT" | "KILL"): string {
  // One bracketed blank keeps the pattern from matching the command line it stands in.
  const pattern = `^${marker(execId).replaceAll(" ", "[ ]")}`;
  return `for f in $(grep -lszE '${pattern}' /proc/[0-9]*/cmdline); do f=\${f%/cmdline}; kill -s ${signal} -- -"\${f#/proc/}" 2>/dev/null; done; true`;
}

/** Ends with 0 when the exec's own command ended with 255, and forgets it; with 1 when ssh's 255 was ssh's. */
export function remoteStatusCommand(execId: string): string {
  return `rm ${EXEC_DIR}/${checkedId(execId)}.255 2>/dev/null`;
}

function checkedId(execId: string): string {
  if (!EXEC_ID.test(execId)) throw new TypeError("execId is not hex");
  return execId;
}
