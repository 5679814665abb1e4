/** The shape of a verb. Its schema is the contract's; its gates on what was sent run before it, in `dispatch.ts`. */

import type { HelperOutputOf, HelperParsedInputOf, HelperVerbName } from "../shared/contract/helper-api.ts";
import type { HelperContext } from "./context.ts";
import type { Gate } from "./gates.ts";

export interface Verb<Name extends HelperVerbName> {
  /** Rules on what was sent. */
  readonly gates: readonly Gate<HelperParsedInputOf<Name>>[];
  /** Rules on what was found on the host, enforced by `run` itself; listed for the documentation. */
  readonly facts: readonly Gate<never>[];
  /** What a caller can't do because the verb takes no such thing; for the documentation. */
  readonly byDesign?: { readonly rule: string; readonly stops: string };
  /** Calls with the same key run one after the other; null for none. */
  readonly lock: (input: HelperParsedInputOf<Name>) => string | null;
  readonly run: (
    input: HelperParsedInputOf<Name>,
    context: HelperContext,
  ) => HelperOutputOf<Name> | Promise<HelperOutputOf<Name>>;
}

/** Life of one VM: everything that concerns it in order. */
export const vmLock = ({ vm }: { readonly vm: string }): string => `vm ${vm}`;
/** Interfaces and rules are one shared thing of the host. */
export const networkLock = (): string => "network";
