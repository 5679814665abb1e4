/**
 * The root helper's role. Its environment is checked before any other helper code loads, because loading opens libc and
 * reads files. Whatever the loader or runtime was told to preload has run by then: the unit's `UnsetEnvironment` keeps
 * such variables away, and this check detects a unit that doesn't.
 */

import { findHostile } from "./sanitize.ts";

/** The exit status of HELPER_REFUSED, repeated here because the error table isn't loaded yet. */
const REFUSED = 13;

/** Serves until SIGTERM on the socket that systemd passes as descriptor 3. Returns the exit status. */
export async function runHelper(argv: readonly string[]): Promise<number> {
  const hostile = findHostile(process.env, process.execArgv);
  if (hostile.length > 0) {
    process.stderr.write(
      `bangerd-root: refused to start: ${hostile.join(", ")} can make this program load other code\n`,
    );
    return REFUSED;
  }
  const { serveHelper } = await import("./service.ts");
  return await serveHelper(argv);
}
