/**
 * `banger internal build-image NAME [again]`: builds an image of the catalog into an installed system's store, as its owner
 * and outside of the daemon's sandbox, which allows no namespaces. What it builds appears there whole, by a rename. Says how
 * far it is, and at the end what went wrong, as JSON lines on standard error.
 */

import { readFile } from "node:fs/promises";
import { BangerError, exitStatusOf, toBangerError } from "../../shared/errors.ts";
import { parseInstallConfig } from "../../shared/install-config.ts";
import { systemPaths } from "../../shared/places/paths.ts";
import { ensurePrivateDirectory } from "../../shared/places/private-directory.ts";
import { createKernelStore } from "../kernel/store.ts";
import { createImageStore } from "./store.ts";

/** Returns the process's exit status. */
export async function buildImage(argv: readonly string[]): Promise<number> {
  const [name = "", mode] = argv;
  process.umask(0o077);
  const abort = new AbortController();
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
    process.on(signal, () => abort.abort(new BangerError("CANCELLED", "cancelled")));
  }
  try {
    const paths = systemPaths();
    const { owner } = parseInstallConfig(await readFile(paths.installFile, "utf8"));
    // Somebody else's files, root's included, would be in the daemon's way.
    if (process.getuid?.() !== owner.uid)
      throw new BangerError("NOT_OWNER", `only ${owner.name} can build images on this system`, {
        hint: `sudo -u ${owner.name} banger image build ${name}`,
      });
    await ensurePrivateDirectory(paths.stateDir);
    const images = createImageStore(paths, createKernelStore(paths));
    await images.ensure(name, { signal: abort.signal, progress: (progress) => say({ progress }) }, mode === "again");
    return 0;
  } catch (thrown) {
    const error = toBangerError(thrown);
    say({ error: error.toDocument() });
    return exitStatusOf(error.code);
  }
}

function say(line: unknown): void {
  process.stderr.write(`${JSON.stringify(line)}\n`);
}
