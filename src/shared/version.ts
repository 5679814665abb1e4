/** The version of this build; `scripts/build.ts` defines it, a checkout reads package.json. */

import packageJson from "../../package.json" with { type: "json" };

export const VERSION: string = packageJson.version;

/** Whether a text is a version of banger's: what another process says of itself may be anything. */
export function isVersion(text: string): boolean {
  return /^\d{1,4}\.\d{1,4}\.\d{1,4}(?:-[0-9A-Za-z.]{1,32})?$/.test(text);
}
