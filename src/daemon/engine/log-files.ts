/** A VM's logs in its own directory, where they are once no VMM has them elsewhere. */

import { join } from "node:path";

export interface LogFile extends Disposable {
  readonly path: string;
}

export const serialLogPath = (stateDir: string): string => join(stateDir, "serial.log");
export const vmmLogPath = (stateDir: string): string => join(stateDir, "vmm.log");

/** The log that stands in a VM's directory. */
export function keptLog(stateDir: string, source: "serial" | "vmm"): LogFile {
  return { path: source === "serial" ? serialLogPath(stateDir) : vmmLogPath(stateDir), [Symbol.dispose]: () => {} };
}
