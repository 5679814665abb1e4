/**
 * The root helper's role. Nothing of it is loaded before its environment was looked at: loading code opens libc and reads
 * files already. What the loader or the runtime was told to preload has run by then: the unit's `UnsetEnvironment` is what
 * keeps such variables away, and this look tells of a unit that doesn't.
 */

import { findHostile } from "./sanitize.ts";

/** Exit status of a refusal (the table's HELPER_REFUSED), written out because the table isn't loaded yet. */
const REFUSED = 13;

/**
 * Serves until SIGTERM. Returns the exit status. The socket comes from systemd as descriptor 3.
 */
export async function runHelper(argv: readonly string[]): Promise<number> {
  const hostile = findHostile(process.env, process.execArgv);
  if (hostile.length > 0) {
    process.stderr.write(`bangerd-root: refused to start: ${hostile.join(", ")} steer this program\n`);
    return REFUSED;
  }
  const { serveHelper } = await import("./service.ts");
  return await serveHelper(argv);
}
