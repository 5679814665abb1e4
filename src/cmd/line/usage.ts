import { BangerError } from "../../shared/errors.ts";

/** An error of the command line, with the help that would have shown the right one. */
export function usageError(message: string, path: readonly string[] = []): BangerError {
  return new BangerError("USAGE", message, { hint: ["banger", ...path, "--help"].join(" ") });
}
