import { BangerError, isErrno } from "../../shared/errors.ts";
import { bridgeName, enforce, realBridge, realTap, tapName } from "../gates.ts";
import { disableIpv6, listInterfaces, portsOf } from "../network.ts";
import { dropTap, giveTap, plugTap } from "../sys/taps.ts";
import { networkLock, type Verb } from "../verb.ts";

const ROOT_UID = 0;

export const createTap: Verb<"priv.create_tap"> = {
  gates: [tapName, bridgeName],
  facts: [realBridge, realTap],
  byDesign: {
    rule: "the tap is root's until a launch hands it to that VM's uid",
    stops: "the owner, or any local user, opening a tap and speaking as a guest",
  },
  lock: networkLock,
  run: async ({ tap, bridge }) => {
    const links = listInterfaces();
    const link = links.find(({ name }) => name === bridge);
    if (link === undefined) throw new BangerError("FAILED", `there is no ${bridge}`);
    enforce(realBridge, { link, ports: portsOf(bridge, links) });
    const before = links.find(({ name }) => name === tap);
    if (before !== undefined) enforce(realTap, { link: before });
    try {
      // Whatever one of that name was set to, or is a port of, goes with it.
      if (before !== undefined) dropTap(tap);
      giveTap(tap, ROOT_UID);
    } catch (thrown) {
      if (isErrno(thrown, "EBUSY")) throw new BangerError("IN_USE", `${tap} is open`, { cause: thrown });
      throw thrown;
    }
    try {
      disableIpv6(tap);
      plugTap(tap, bridge);
    } catch (thrown) {
      dropTap(tap);
      throw thrown;
    }
    return {};
  },
};
