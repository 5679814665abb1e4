import { rename } from "node:fs/promises";
import { isErrno } from "../../../../shared/errors.ts";
import type { Step } from "../../step.ts";
import { serialLogPath } from "../../log-files.ts";

/** A console log of this start's own, so that nothing a guest said before is taken for its words. The one before is kept. */
export function serialLog(): Step {
  return {
    name: "serial-log",
    do: async ({ dirs }) => {
      const path = serialLogPath(dirs.state);
      await rename(path, `${path}.old`).catch((thrown: unknown) => {
        if (!isErrno(thrown, "ENOENT")) throw thrown;
      });
    },
    undo: async () => {},
  };
}
