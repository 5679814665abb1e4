/** The shape of a verb. The contract has its schema; `dispatch.ts` checks its gates on the input before it runs. */

import type { HelperOutputOf, HelperParsedInputOf, HelperVerbName } from "../shared/contract/helper-api.ts";
import type { HelperContext } from "./context.ts";
import type { Gate } from "./gates.ts";

export interface Verb<Name extends HelperVerbName> {
  /** Rules on the input. */
  readonly gates: readonly Gate<HelperParsedInputOf<Name>>[];
  /** Rules on facts found on the host. `run` enforces them; they are listed for the documentation. */
  readonly facts: readonly Gate<never>[];
  /** What a caller can't do because the verb takes no such input, for the documentation. */
  readonly byDesign?: { readonly rule: string; readonly stops: string };
  /** Calls with the same key run one after another; null for no lock. */
  readonly lock: (input: HelperParsedInputOf<Name>) => string | null;
  readonly run: (
    input: HelperParsedInputOf<Name>,
    context: HelperContext,
  ) => HelperOutputOf<Name> | Promise<HelperOutputOf<Name>>;
}

/** Serializes everything that concerns one VM. */
export const vmLock = ({ vm }: { readonly vm: string }): string => `vm ${vm}`;
/** Serializes changes to interfaces and rules, which the whole host shares. */
export const networkLock = (): string => "network";
