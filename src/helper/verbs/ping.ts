import { HELPER_VERSION } from "../../shared/contract/helper-api.ts";
import { VERSION } from "../../shared/version.ts";
import type { Verb } from "../verb.ts";

export const ping: Verb<"priv.ping"> = {
  gates: [],
  facts: [],
  lock: () => null,
  run: (_, { install }) => ({
    version: VERSION,
    helper_version: HELPER_VERSION,
    pid: process.pid,
    owner_uid: install.owner.uid,
  }),
};
