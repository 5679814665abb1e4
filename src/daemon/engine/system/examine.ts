/** Doctor's rows of the installed system: asks the host and the helper, and tries the guests' network. */

import type { Config } from "../../../shared/config.ts";
import { toBangerError } from "../../../shared/errors.ts";
import type { DoctorRow } from "../../../shared/contract/schemas.ts";
import { VERSION } from "../../../shared/version.ts";
import { decideJailedAcceleration } from "../acceleration.ts";
import { describeHelper, describeNat, describeUntriedNat, examineNeeds, findLack } from "./doctor.ts";
import { type HostFacts, hostKindOf } from "./host-facts.ts";
import type { GuestNetwork } from "./network/guest-network.ts";
import type { NameService } from "./network/name-service.ts";
import type { Privileged } from "./privileged.ts";

export interface ExamineParts {
  readonly config: Config;
  readonly host: HostFacts;
  readonly privileged: Privileged;
  readonly network: GuestNetwork;
  readonly names: NameService;
  /** Addresses of VMs. */
  readonly addresses: () => ReadonlySet<string>;
  readonly bridgeIpInUse: () => string | null;
}

export async function examineSystem(parts: ExamineParts): Promise<readonly DoctorRow[]> {
  const { host, privileged } = parts;
  const rows: DoctorRow[] = [examineAcceleration(host), ...examineNeeds(host.needs)];
  try {
    rows.push(describeHelper(await privileged.call("priv.ping", {}), VERSION));
  } catch (thrown) {
    const { code, message, hint } = toBangerError(thrown);
    // One that knows no such request is of another version.
    const fix = code === "INVALID_REQUEST" ? "sudo banger system restart" : "sudo systemctl status bangerd-root.socket";
    return [...rows, { check: "root helper", level: "FAIL", message, fix: hint ?? fix }];
  }
  return [...rows, await examineFirecracker(privileged), ...(await examineNetwork(parts)), examineNames(parts)];
}

function examineAcceleration(host: HostFacts): DoctorRow {
  const { kind, reason, fix } = decideJailedAcceleration(host.kvm());
  if (kind !== "kvm") return { check: "kvm", level: "FAIL", message: reason, fix };
  if (hostKindOf(host.cpus()) === "hardware") return { check: "kvm", level: "PASS", message: reason, fix };
  const message = `${reason}; this host is a virtual machine itself, so guests are slower`;
  return { check: "kvm", level: "WARN", message, fix };
}

async function examineFirecracker(privileged: Privileged): Promise<DoctorRow> {
  try {
    const { version, firecracker } = await privileged.call("priv.resolve_firecracker_binary", {});
    return { check: "firecracker", level: "PASS", message: `${version} (${firecracker})`, fix: null };
  } catch (thrown) {
    const { message } = toBangerError(thrown);
    return { check: "firecracker", level: "FAIL", message, fix: "sudo banger system install" };
  }
}

/** The range, the bridge, and a packet of a guest's on its way out. */
async function examineNetwork({
  config,
  host,
  network,
  addresses,
  bridgeIpInUse,
}: ExamineParts): Promise<readonly DoctorRow[]> {
  const { bridge, ip, prefix } = network.network(bridgeIpInUse());
  const range = `${ip}/${prefix} on ${bridge}`;
  const { collision } = network;
  const first = config.bridge_ip === null ? "the usual range" : "it";
  const message = collision === null ? range : `${range}; a route by ${collision.device} collides with ${first}`;
  const row = (level: DoctorRow["level"], said: string, fix: string | null): DoctorRow => ({
    check: "network",
    level,
    message: said,
    fix,
  });
  const move = "set bridge_ip in /etc/banger/config.toml to an address of a free range";
  try {
    await network.reassureBridge();
  } catch (thrown) {
    const { message: why } = toBangerError(thrown);
    const otherwise = collision === null ? "sudo journalctl -u bangerd-root.service -n 20" : move;
    const fix = findLack("bridge and taps", host.needs).fix ?? otherwise;
    return [row("FAIL", `${message}; the bridge can't be made: ${why}`, fix)];
  }
  const own =
    collision === null ? row("PASS", message, null) : row("WARN", message, config.bridge_ip === null ? null : move);
  const { lacks, fix } = findLack("NAT", host.needs);
  if (lacks.length > 0) {
    return [own, { check: "NAT", level: "WARN", message: `guests can't have --nat: ${lacks.join(", ")}`, fix }];
  }
  try {
    return [own, describeNat(await network.probeNat(addresses()), network.network())];
  } catch (thrown) {
    return [own, describeUntriedNat(toBangerError(thrown))];
  }
}

function examineNames({ config, host, names: { troubles } }: ExamineParts): DoctorRow {
  const row = (level: DoctorRow["level"], message: string, fix: string | null): DoctorRow => ({
    check: "names",
    level,
    message,
    fix,
  });
  const answered = `NAME.vm is answered at ${config.dns}`;
  const { lacks, fix } = findLack("names", host.needs);
  const trouble = troubles.get("dns") ?? (lacks.length > 0 ? undefined : troubles.get("resolver"));
  if (trouble !== undefined)
    return row("WARN", trouble.message, trouble.hint ?? "point your resolver's domain vm at the daemon's port");
  if (lacks.length > 0) return row("WARN", `${answered}, but this host does not ask there: ${lacks.join(", ")}`, fix);
  return row("PASS", answered, null);
}
