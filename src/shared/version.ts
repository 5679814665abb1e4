/** The version of this build, from package.json, and what kind of build it is. */

import packageJson from "../../package.json" with { type: "json" };

export const VERSION: string = packageJson.version;

/** Set by `scripts/build.ts --for-tests`, and by nothing else: no environment variable or flag reaches it. */
declare const BANGER_FOR_TESTS: boolean;

/** Whether this executable was built for the project's own tests. Such a build says so and accepts an old Firecracker. */
export const IS_TEST_BUILD: boolean = typeof BANGER_FOR_TESTS === "undefined" ? false : BANGER_FOR_TESTS;

/** Whether a text is a version of banger's: what another process says of itself may be anything. */
export function isVersion(text: string): boolean {
  return /^\d{1,4}\.\d{1,4}\.\d{1,4}(?:-[0-9A-Za-z.]{1,32})?$/.test(text);
}
