/** The `vm.*` methods. */

import { open, stat } from "node:fs/promises";
import { BangerError } from "../../shared/errors.ts";
import type { VmId, VmRecord } from "../../shared/contract/schemas.ts";
import { agentPlaceOf } from "../guest/address.ts";
import { readTailBytes } from "../guest/ready.ts";
import type { OperationContext } from "./operations.ts";
import type { LogFile } from "../engine/log-files.ts";
import type { VmService } from "../vm/service.ts";
import type { HandlersOf } from "./handlers.ts";
import { forEachVm, type ManyItem } from "./many.ts";
import { addForward, listPorts, removeForward } from "./ports.ts";

const LOG_TAIL_LIMIT_BYTES = 8 * 1024 * 1024;
const FOLLOW_POLL_MS = 200;

export function createVmHandlers(service: VmService): HandlersOf<"vm"> {
  const { parts, records, lifecycle, queries } = service;
  const many = async (
    refs: readonly string[],
    context: OperationContext,
    work: (id: VmId, context: OperationContext) => Promise<VmRecord>,
  ): Promise<ManyItem[]> => await forEachVm(service, refs, async (id) => await work(id, context));
  /** The VMs named, or all that run when none is. */
  const chosen = (refs: readonly string[]): readonly VmRecord[] => {
    const all = parts.vms.list();
    if (refs.length === 0) return all.filter(({ state }) => state === "running");
    return [...new Map(refs.map((ref) => queries.resolve(ref, all)).map((vm) => [vm.id, vm])).values()];
  };

  return {
    "vm.create": async (input, context) => await lifecycle.create({ ...input, spec: definedOnly(input.spec) }, context),
    "vm.resolveSpec": async (input) => lifecycle.resolveCreate(input.image, definedOnly(input.spec)),
    "vm.start": async ({ vms }, context) => await many(vms, context, async (id, run) => await lifecycle.start(id, run)),
    "vm.stop": async ({ vms }, context) => await many(vms, context, async (id, run) => await lifecycle.stop(id, run)),
    "vm.restart": async ({ vms }, context) =>
      await many(vms, context, async (id, run) => await lifecycle.restart(id, run)),
    "vm.kill": async ({ vms, signal }, context) =>
      await many(vms, context, async (id) => await lifecycle.kill(id, `SIG${signal}`)),
    "vm.delete": async ({ vms }, context) => await many(vms, context, async (id) => await lifecycle.delete(id)),
    "vm.list": async ({ all }) => parts.vms.list().filter(({ state }) => all || state === "running"),
    "vm.show": async ({ vm }) => queries.resolve(vm),
    "vm.stats": async ({ vms }) => await Promise.all(chosen(vms).map(async (vm) => await queries.stats(vm))),
    "vm.logs": async ({ vm: ref, source, follow, tailLines }, context) => {
      const vm = queries.resolve(ref);
      await sendLog(() => parts.engine.openLog(vm.id, records.dirs(vm.id), source), follow, tailLines, context);
      return {};
    },
    "vm.set": async ({ vm, spec }) => await lifecycle.set(queries.resolve(vm).id, definedOnly(spec)),
    "vm.connect": async ({ vm: ref, accepts }) => {
      const vm = queries.resolve(ref);
      const address = await queries.reach(vm, accepts);
      const known = { id: vm.id, name: vm.name, workDir: vm.workspace?.guestPath ?? "/root" };
      return address.hasAgent && accepts.includes("agent")
        ? { kind: "agent", ...known, channel: agentPlaceOf(address) }
        : { kind: "ssh", ...known, sshArgv: [...parts.guest.sshArgv(address)] };
    },
    "vm.ports": async ({ vms }) => {
      const ports = await Promise.all(chosen(vms).map(async (vm) => await listPorts(service, vm)));
      return ports.flat();
    },
    "vm.forward": async ({ vm: ref, hostPort, guestPort }) => {
      checkPort("hostPort", hostPort);
      checkPort("guestPort", guestPort);
      return await addForward(service, queries.resolve(ref), hostPort, guestPort);
    },
    "vm.unforward": async ({ vm: ref, hostPort }) => {
      await removeForward(service, queries.resolve(ref), hostPort);
      return {};
    },
  };
}

/** Without the keys whose value is undefined: those were not asked for. */
function definedOnly<T extends object>(values: T): { [K in keyof T]: Exclude<T[K], undefined> } {
  return Object.fromEntries(Object.entries(values).filter(([, value]) => value !== undefined)) as {
    [K in keyof T]: Exclude<T[K], undefined>;
  };
}

function checkPort(field: string, port: number): void {
  if (!Number.isInteger(port) || port < 1 || port > 65535) {
    throw new BangerError("INVALID_VALUE", `${field}: ${port} is not a port (1 to 65535)`);
  }
}

async function sendLog(
  openLog: () => LogFile | null,
  follow: boolean,
  tailLines: number | undefined,
  { signal, data }: OperationContext,
): Promise<void> {
  let sent = 0;
  {
    using log = openLog();
    const path = log?.path ?? "/dev/null";
    sent = (await stat(path).catch(() => null))?.size ?? 0;
    const bytes = await readTailBytes(path, LOG_TAIL_LIMIT_BYTES);
    data(tailLines === undefined ? bytes : lastLines(bytes, tailLines));
  }
  while (follow) {
    signal.throwIfAborted();
    // Opened anew each time: a start begins another file.
    using log = openLog();
    const path = log?.path ?? "/dev/null";
    const size = (await stat(path).catch(() => null))?.size ?? 0;
    // Cut by the patrol, or begun anew by a start.
    if (size < sent) sent = 0;
    if (size > sent) {
      await using file = await open(path, "r");
      const buffer = Buffer.alloc(Math.min(size - sent, LOG_TAIL_LIMIT_BYTES));
      const { bytesRead } = await file.read(buffer, 0, buffer.length, sent);
      sent += bytesRead;
      data(buffer.subarray(0, bytesRead));
    } else {
      await Bun.sleep(FOLLOW_POLL_MS);
    }
  }
}

function lastLines(bytes: Buffer, count: number): Buffer {
  // One character per byte: a guest's console need not be UTF-8.
  const lines = bytes.toString("latin1").split("\n");
  const ended = lines.at(-1) === "";
  const kept = (ended ? lines.slice(0, -1) : lines).slice(-Math.max(0, count) || lines.length);
  return Buffer.from(count <= 0 ? "" : kept.join("\n") + (ended ? "\n" : ""), "latin1");
}
