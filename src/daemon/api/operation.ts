/** The `operation.*` methods. */

import { BangerError } from "../../shared/errors.ts";
import type { Operations } from "./operations.ts";
import type { HandlersOf } from "./handlers.ts";

export function createOperationHandlers(operations: Operations): HandlersOf<"operation"> {
  return {
    "operation.list": async () => [...operations.list()],
    "operation.watch": () => {
      // The server joins the watched operation itself; this method never runs as one.
      throw new BangerError("INTERNAL", "operation.watch was dispatched");
    },
    "operation.cancel": async ({ id }) => {
      operations.cancel(id);
      return {};
    },
  };
}
