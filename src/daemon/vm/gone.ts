/** What is said of a VM that no longer exists. */

import { BangerError } from "../../shared/errors.ts";
import type { VmRecord } from "../../shared/contract/schemas.ts";

/** An error about a VM that was undone. No command works on it any more, so the hint names none that would. */
export function withoutVm(error: BangerError, { id, name }: Pick<VmRecord, "id" | "name">): BangerError {
  const words = error.hint?.split(" ") ?? [];
  if (!words.includes(name) && !words.includes(id)) return error;
  const { hint: _, ...rest } = error.toDocument();
  return new BangerError(error.code, error.message, { ...rest, hint: "banger daemon logs -n 20", cause: error.cause });
}
