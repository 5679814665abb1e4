/** How a daemon that does not come up tells whoever started it why: one error document on a pipe of its own. */

/** The argument of `daemon run` that says that the pipe is there. */
export const REPORT_TO_STARTER = "--report-to-starter";
/** The pipe's descriptor in the daemon. */
export const REPORT_DESCRIPTOR = 3;
