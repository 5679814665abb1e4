/** What the helper's inventory holds and no VM owns. */

import * as v from "valibot";
import { type Leftover, VmId, type VmRecord } from "../../../shared/contract/schemas.ts";
import type { HelperOutputOf } from "../../../shared/contract/helper-api.ts";
import { PROBE_TAP, scopeName, vmOfDm } from "../../../shared/host-names.ts";
import { tapOf } from "./network/addresses.ts";
import type { GuestNetwork } from "./network/guest-network.ts";
import type { Privileged } from "./privileged.ts";
import type { Found } from "../engine.ts";

type Inventory = HelperOutputOf<"priv.inventory">;

/** What of an inventory belongs to nobody, in the order in which it can be removed. Pure. */
function compareInventory(
  inventory: Inventory,
  owned: {
    /** VM ids. */
    readonly known: ReadonlySet<string>;
    /** Taps of VMs that run, and those made ahead. */
    readonly taps: ReadonlySet<string>;
  },
): {
  readonly scopes: readonly string[];
  readonly jails: readonly string[];
  readonly disks: readonly string[];
  readonly rules: readonly { readonly guestIp: string; readonly tap: string }[];
  readonly taps: readonly string[];
  readonly slots: readonly string[];
} {
  const strays = (ids: readonly string[]): readonly string[] =>
    [...new Set(ids)].filter((id) => !owned.known.has(id)).toSorted();
  const dmIds = inventory.dm.flatMap((name) => vmOfDm(name) ?? []);
  return {
    scopes: strays(inventory.scopes.map(({ vm }) => vm)),
    jails: strays(inventory.jails),
    disks: strays([...dmIds, ...inventory.cow_files.map(({ vm }) => vm)]),
    rules: inventory.nat_rules
      .filter(({ tap }) => !owned.taps.has(tap))
      .map(({ tap, guest_ip }) => ({ guestIp: guest_ip, tap })),
    taps: inventory.taps.map(({ tap }) => tap).filter((tap) => !owned.taps.has(tap)),
    slots: strays(inventory.slots.map(({ vm }) => vm)),
  };
}

/** Strays of the inventory, with their removal. */
export async function findSystemLeftovers(
  privileged: Privileged,
  network: GuestNetwork,
  store: { readonly known: ReadonlySet<string>; readonly vms: readonly VmRecord[] },
): Promise<readonly Found[]> {
  const turns = network.probeTurns;
  const inventory = await privileged.call("priv.inventory", {});
  const isProbing = turns % 2 === 1 || network.probeTurns !== turns;
  const inUse = store.vms.flatMap(({ state, guestIp }) =>
    guestIp === undefined || guestIp === null || state === "stopped" || state === "created"
      ? []
      : [tapOf(network.network(), guestIp)],
  );
  const strays = compareInventory(inventory, {
    known: store.known,
    taps: new Set([...inUse, ...network.warm, ...(isProbing ? [PROBE_TAP] : [])]),
  });
  const found = (kind: Leftover["kind"], what: string, remove: () => Promise<unknown>): Found => ({
    leftover: { kind, what },
    remove: async () => {
      await remove();
    },
  });
  const ofVms = (
    ids: readonly string[],
    kind: Leftover["kind"],
    what: (id: string) => string,
    remove: (vm: VmId) => Promise<unknown>,
  ): readonly Found[] =>
    ids.flatMap((id) => {
      const vm = v.safeParse(VmId, id);
      return vm.success ? [found(kind, what(id), async () => await remove(vm.output))] : [];
    });
  return [
    ...ofVms(strays.scopes, "process", scopeName, async (vm) => await privileged.call("priv.kill_process", { vm })),
    ...ofVms(
      strays.jails,
      "jail",
      (id) => `jail of ${id}`,
      async (vm) => await privileged.call("priv.cleanup_jailer_chroot", { vm }),
    ),
    ...ofVms(
      strays.disks,
      "disk",
      (id) => `root disk of ${id}`,
      async (vm) => await privileged.call("priv.remove_dm_snapshot", { vm, discard: true }),
    ),
    ...strays.rules.map(({ guestIp, tap }) =>
      found(
        "rule",
        `NAT of ${guestIp} on ${tap}`,
        async () => await privileged.call("priv.ensure_nat", { guest_ip: guestIp, tap, enable: false }),
      ),
    ),
    ...strays.taps.map((tap) => found("tap", tap, async () => await privileged.call("priv.delete_tap", { tap }))),
    ...ofVms(
      strays.slots,
      "uid",
      (id) => `uid of ${id}`,
      async (vm) => await privileged.call("priv.release_vm", { vm }),
    ),
  ];
}
