/** The version of this build; `scripts/build.ts` defines it, a checkout reads package.json. */

import packageJson from "../../package.json" with { type: "json" };

export const VERSION: string = packageJson.version;
