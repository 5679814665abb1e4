/** What listens in a guest, and forwards to it from this host's loopback. */

import { BangerError } from "../../shared/errors.ts";
import type { Forward, Port, VmRecord } from "../../shared/contract/schemas.ts";
import type { Listener } from "../guest/ports.ts";
import type { ForwardRow } from "../store/forwards.ts";
import type { VmService } from "../vm/service.ts";

const URL_PROBE_MS = 1500;
const HOST_ADDRESS = "127.0.0.1";

/** @throws BangerError WRONG_STATE, GUEST_NOT_READY, IN_USE, NO_ACCESS */
export async function addForward(
  service: VmService,
  vm: VmRecord,
  hostPort: number,
  guestPort: number,
): Promise<Forward> {
  const { forwards, guest, vms } = service.parts;
  const address = await service.queries.reach(vm, ["ssh"]);
  const forward = { vm: vm.name, hostAddress: HOST_ADDRESS, hostPort, guestPort };
  const known = forwards.find(hostPort);
  const holder = known === null ? null : vms.get(known.vm);
  if (known !== null && holder?.state === "running") {
    if (known.vm === vm.id && known.guestPort === guestPort) return forward;
    throw new BangerError(
      "IN_USE",
      `${HOST_ADDRESS}:${hostPort} is already forwarded to port ${known.guestPort} of ${holder.name}`,
      { hint: `banger vm forward --stop ${holder.name} ${hostPort}` },
    );
  }
  await guest.addForward(address, hostPort, guestPort);
  forwards.add({ vm: vm.id, hostPort, guestPort });
  return forward;
}

/** @throws BangerError FORWARD_NOT_FOUND, GUEST_NOT_READY */
export async function removeForward(service: VmService, vm: VmRecord, hostPort: number): Promise<void> {
  const { forwards, guest } = service.parts;
  const row = forwards.list(vm.id).find((forward) => forward.hostPort === hostPort);
  if (row === undefined)
    throw new BangerError("FORWARD_NOT_FOUND", `port ${hostPort} of this host is not forwarded to ${vm.name}`, {
      hint: `banger vm ports ${vm.name}`,
    });
  if (vm.state === "running")
    await guest.removeForward(await service.queries.reach(vm, ["ssh"]), hostPort, row.guestPort);
  forwards.remove(vm.id, hostPort);
}

/** By port: what listens, once for each forward to it, and forwards that nobody listens behind. */
export async function listPorts(service: VmService, vm: VmRecord): Promise<readonly Port[]> {
  const { guest, forwards } = service.parts;
  const address = await service.queries.reach(vm, ["agent", "ssh"]);
  const rows = joinPorts(await guest.listListeners(address), forwards.list(vm.id));
  return await Promise.all(
    rows.map(async ({ port, process, hostPort, listens }): Promise<Port> => ({
      vm: vm.name,
      port,
      process,
      forward: hostPort === null ? null : `${HOST_ADDRESS}:${hostPort}`,
      url: hostPort === null || !listens ? null : await probeUrl(hostPort),
    })),
  );
}

interface PortRow {
  readonly port: number;
  readonly process: string | null;
  readonly hostPort: number | null;
  readonly listens: boolean;
}

/** Pure. banger's own way in, port 22, shows only when something is forwarded to it. */
export function joinPorts(listeners: readonly Listener[], forwards: readonly ForwardRow[]): readonly PortRow[] {
  const to = (port: number): readonly number[] =>
    forwards.filter(({ guestPort }) => guestPort === port).map(({ hostPort }) => hostPort);
  const listening = listeners.flatMap(({ port, process }): PortRow[] => {
    const hostPorts = to(port);
    if (hostPorts.length === 0) return port === 22 ? [] : [{ port, process, hostPort: null, listens: true }];
    return hostPorts.map((hostPort) => ({ port, process, hostPort, listens: true }));
  });
  const known = new Set(listeners.map(({ port }) => port));
  const silent = forwards
    .filter(({ guestPort }) => !known.has(guestPort))
    .map(({ guestPort, hostPort }): PortRow => ({ port: guestPort, process: null, hostPort, listens: false }));
  return [...listening, ...silent].toSorted((a, b) => a.port - b.port || (a.hostPort ?? 0) - (b.hostPort ?? 0));
}

/** The URL of a forward that answers http or https, null when it answers neither in time. */
async function probeUrl(hostPort: number): Promise<string | null> {
  const tries = ["http", "https"].map(async (scheme) => {
    const url = `${scheme}://${HOST_ADDRESS}:${hostPort}/`;
    await fetch(url, {
      method: "HEAD",
      redirect: "manual",
      signal: AbortSignal.timeout(URL_PROBE_MS),
      // Whether it speaks TLS is the question, not whose certificate a sandbox has.
      tls: { rejectUnauthorized: false },
    });
    return url;
  });
  return await Promise.any(tries).catch(() => null);
}
