import { defineCommand } from "../../line/command.ts";

const ANSWERS = "answers";

export const command = defineCommand({
  args: {},
  json: true,
  examples: [["banger system status", "shows what is installed and running"]],
  next: "journalctl -b -u bangerd.service -u bangerd-root.service",
  run: async ({ json, out }) => {
    const { isHealthy, readSystemStatus } = await import("../../system/status.ts");
    const status = await readSystemStatus();
    const exit = isHealthy(status) ? 0 : 1;
    if (json) {
      out.json(status);
      return exit;
    }
    if (!status.installed || status.owner === null) {
      out.line("not installed");
      return exit;
    }
    const { owner, firecracker, daemon, helper, units, sockets, runningVms } = status;
    const answer = (of: typeof daemon): string => of.version ?? of.error ?? "";
    out.table(
      ["PART", "STATE", "DETAIL"],
      [
        ["owner", owner.name, `uid ${owner.uid}`],
        ["firecracker", firecracker?.version ?? "missing", firecracker?.directory ?? ""],
        ["owner daemon", daemon.version === null ? "silent" : ANSWERS, answer(daemon)],
        ["root helper", helper.version === null ? "silent" : ANSWERS, answer(helper)],
        ...units.map(({ name, active, enabled, pid }) => [
          name,
          active,
          pid === null ? enabled : `${enabled}, pid ${pid}`,
        ]),
        ...sockets.map(({ path, mode, uid }) => [path, mode ?? "hidden", uid === null ? "" : `uid ${uid}`]),
        ["running VMs", String(runningVms.length), runningVms.join(" ")],
      ],
    );
    return exit;
  },
});
