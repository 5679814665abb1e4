/** Makes the verb table of docs/privileges.md from the code that enforces it. */

import { HELPER_VERBS, type HelperVerbName } from "../shared/contract/helper-api.ts";
import type { Gate } from "./gates.ts";
import { VERBS } from "./verbs/index.ts";

export interface VerbRow {
  /** `priv.create_tap {tap, bridge}` */
  readonly verb: string;
  readonly doc: string;
  /** What must be true besides caller and schema. */
  readonly gate: string;
  /** The attacks it prevents. */
  readonly stops: string;
}

/** Lists one row per verb, in the contract's order. */
export function verbTable(): readonly VerbRow[] {
  return (Object.keys(HELPER_VERBS) as HelperVerbName[]).map((name) => {
    const { gates, facts, byDesign } = VERBS[name];
    const rules: readonly Pick<Gate<never>, "rule" | "stops">[] = [
      ...(gates as readonly Gate<never>[]),
      ...facts,
      ...(byDesign === undefined ? [] : [byDesign]),
    ];
    const join = (texts: readonly string[]): string => [...new Set(texts)].join("; ");
    return {
      verb: `${name} {${Object.keys(HELPER_VERBS[name].input.entries).join(", ")}}`,
      doc: HELPER_VERBS[name].doc,
      gate: join(rules.map(({ rule }) => rule)),
      stops: join(rules.map(({ stops }) => stops)),
    };
  });
}
