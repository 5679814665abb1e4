/** A connection to a guest, whatever carries it. `ssh/` has the one there is. */

import type { ToolResult } from "../host/run-tool.ts";
import type { GuestAddress } from "./address.ts";

export interface GuestConnection {
  /** True when the guest takes connections within `timeoutMs`. */
  answers(address: GuestAddress, timeoutMs: number, signal?: AbortSignal): Promise<boolean>;
  /** Opens the connection if it isn't open. @throws BangerError GUEST_NOT_READY */
  open(address: GuestAddress, timeoutMs: number, signal?: AbortSignal): Promise<void>;
  /** Runs a line in the guest's shell and returns its output, whatever its status. */
  runLine(address: GuestAddress, line: string, timeoutMs: number, signal?: AbortSignal): Promise<ToolResult>;
  /** Ends the connection, and the forwards on it. */
  close(address: Pick<GuestAddress, "id" | "runtimeDir">): Promise<void>;
}
