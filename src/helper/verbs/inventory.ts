import { isOurMark, listCowFiles, listDm } from "../disk/dm.ts";
import { listWalls } from "../network/firewall.ts";
import { listJailMounts, listJails } from "../jail/jail.ts";
import { listInterfaces, markedBridges } from "../network/interfaces.ts";
import { listNatGuests } from "../network/nft.ts";
import { listScopes, scopePids } from "../jail/scope.ts";
import { listSlots } from "../jail/slots.ts";
import { readMark } from "../../shared/network/walls.ts";
import { listLoops } from "../sys/loops.ts";
import type { Verb } from "../verb.ts";

export const inventory: Verb<"priv.inventory"> = {
  gates: [],
  facts: [],
  byDesign: {
    rule: "reads only; finds interfaces, dm devices and loops by the mark root gave them",
    stops: "leftovers that nobody sees",
  },
  lock: () => null,
  run: async (_, context) => {
    const interfaces = listInterfaces();
    return {
      bridges: [...markedBridges(interfaces)],
      taps: interfaces
        .filter(({ tunType, alias }) => tunType === "tap" && readMark(alias)?.kind === "tap")
        .map(({ name, uid }) => ({ tap: name, uid })),
      dm: [...listDm()],
      loops: listLoops()
        .filter(({ facts }) => isOurMark(facts.mark))
        .map(({ device, facts }) => ({ device, mark: facts.mark })),
      mounts: [...listJailMounts(context)],
      jails: [...listJails(context)],
      cow_files: listCowFiles(context).map(({ vm, allocatedBytes }) => ({ vm, allocated_bytes: allocatedBytes })),
      nat_rules: (await listNatGuests()).map(({ guestIp, tap }) => ({ tap, guest_ip: guestIp })),
      walls: [...(await listWalls(context))],
      scopes: listScopes(context).map((vm) => ({ vm, pids: [...scopePids(context, vm)] })),
      slots: listSlots(context).map(({ vm, uid }) => ({ vm, uid })),
    };
  },
};
