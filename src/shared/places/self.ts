/** How this program starts itself again. */

/** True in the compiled executable, whose own files are in Bun's virtual file system. */
const isCompiled = Bun.main.startsWith("/$bunfs/");

/**
 * The argv that starts this program: the executable, or Bun with the checkout's entry. Append command-line arguments.
 */
export function selfArgv(): readonly string[] {
  return isCompiled ? [process.execPath] : [process.execPath, Bun.main];
}
