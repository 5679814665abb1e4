import { BangerError, isErrno } from "../../shared/errors.ts";
import { dropWalledTap } from "../network/firewall.ts";
import { enforce, realTap, tapName } from "../gates.ts";
import { readInterface } from "../network/interfaces.ts";
import { networkLock, type Verb } from "../verb.ts";

export const deleteTap: Verb<"priv.delete_tap"> = {
  gates: [tapName],
  facts: [realTap],
  lock: networkLock,
  run: async ({ tap }, context) => {
    const link = readInterface(tap);
    if (link === null) return {};
    enforce(realTap, { link });
    try {
      await dropWalledTap(context, link);
    } catch (thrown) {
      if (isErrno(thrown, "EBUSY")) throw new BangerError("IN_USE", `${tap} is open`, { cause: thrown });
      throw thrown;
    }
    return {};
  },
};
