/** The logs of VMs: in the jail while it is there, and in the VM's own directory after. */

import { ftruncateSync } from "node:fs";
import { stat } from "node:fs/promises";
import { isErrno } from "../../../shared/errors.ts";
import { JAIL } from "../../../shared/contract/helper-api.ts";
import { openJailFile } from "../../../shared/jail.ts";
import type { VmId } from "../../../shared/contract/schemas.ts";
import type { Log } from "../../log.ts";
import type { VmDirs } from "../guest-access.ts";
import { keptLog, type LogFile } from "../log-files.ts";

const LOG_LIMIT_BYTES = 8 * 1024 * 1024;

export class JailLogs {
  readonly #jailRootOf: (id: VmId) => string;
  readonly #log: Log;

  constructor(jailRootOf: (id: VmId) => string, log: Log) {
    this.#jailRootOf = jailRootOf;
    this.#log = log;
  }

  open(id: VmId, { state }: VmDirs, source: "serial" | "vmm"): LogFile | null {
    try {
      return openJailFile(this.#jailRootOf(id), source === "serial" ? JAIL.serialLog : JAIL.vmmLog);
    } catch (thrown) {
      const isGone = ["ENOENT", "EACCES"].some((errno) => isErrno(thrown, errno));
      if (!isGone) {
        this.#log.warn("a VM's log is not what it should be", { vm: id, error: (thrown as Error).message });
        return null;
      }
    }
    return keptLog(state, source);
  }

  /** Cuts logs that grew past their limit. */
  async trim(id: VmId): Promise<void> {
    const root = this.#jailRootOf(id);
    for (const name of [JAIL.serialLog, JAIL.vmmLog, JAIL.metrics]) {
      try {
        {
          using file = openJailFile(root, name);
          // Firecracker goes on where it was, so the size stays and the beginning becomes a hole: blocks are what counts.
          if ((await stat(file.path)).blocks * 512 <= LOG_LIMIT_BYTES) continue;
        }
        using file = openJailFile(root, name, "write");
        ftruncateSync(file.fd, 0);
      } catch (thrown) {
        if (!isErrno(thrown, "ENOENT"))
          this.#log.warn("a log was not cut", { vm: id, name, error: (thrown as Error).message });
      }
    }
  }
}
