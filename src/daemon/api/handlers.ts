/** What a method's implementation looks like. A missing one, or one with a wrong result, does not compile. */

import type { MethodName, OutputOf, ParsedInputOf } from "../../shared/contract/owner-api.ts";
import type { OperationContext } from "./operations.ts";

/** Plain methods get a context too: their progress goes nowhere, their signal is the connection's. */
export type Handler<M extends MethodName> = (
  input: ParsedInputOf<M>,
  context: OperationContext,
) => Promise<OutputOf<M>>;

export type Handlers = { readonly [M in MethodName]: Handler<M> };
export type HandlersOf<Noun extends string> = {
  readonly [M in MethodName as M extends `${Noun}.${string}` ? M : never]: Handler<M>;
};
