/**
 * How a daemon that fails to start reports why to the process that started it: one error document on a pipe of its own.
 */

/** The argument of `daemon run` that says that the pipe exists. */
export const REPORT_TO_STARTER = "--report-to-starter";
/** The pipe's descriptor in the daemon. */
export const REPORT_DESCRIPTOR = 3;
