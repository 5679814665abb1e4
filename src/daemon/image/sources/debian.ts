/** Images built from the Debian archive, with Debian's kernel and banger's units. */

import { makeInitrd } from "../../kernel/make-initrd.ts";
import { buildDebian, type DebianRecipe } from "../build-debian.ts";
import { UNIT_NAMES } from "../guest-files.ts";
import type { ImageSource } from "./source.ts";

/** @throws BangerError as {@link buildDebian} does */
export function debianSource(recipe: DebianRecipe): ImageSource {
  return {
    fill: async (stagingDir, run) => {
      const built = await buildDebian(recipe, stagingDir, run);
      return {
        origin: {
          distro: "debian",
          release: recipe.suite,
          source: recipe.archive,
          builtBy: built.builtBy,
          units: [...UNIT_NAMES],
        },
        kernel: {
          kind: "new",
          release: built.kernelRelease,
          image: built.kernelImage,
          initrd: makeInitrd(built),
        },
      };
    },
  };
}
