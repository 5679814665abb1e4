/** Levels of the owner API, apart from the contract so that the CLI can compare them without loading the schemas. */

/** Raised by one for every change that an older client can't live with. */
export const API_LEVEL = 1;
export const MINIMUM_API_LEVEL = 1;
