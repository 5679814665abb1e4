import { deepEqual, equal, ok } from "node:assert/strict";
import type { Scenario } from "../scenario.ts";
import { closeLab, drive, LAB, lookAtTreasure, openLab } from "../support/helper-lab.ts";
import { askHelper } from "../support/guests.ts";
import { mainPid } from "../support/installed.ts";
import { differences, takeSnapshot } from "../support/snapshot.ts";

const CONNECTIONS = 1000;
/** The owner's connections at a time; and how many answers root gets meanwhile. */
const OCCUPIED = { silent: 256, asking: 64 } as const;
const PINGS = 10;
const [MARK, STOP] = ["/tmp/occupied", "/tmp/occupied-enough"];
/** The unit's limits are far above what this takes, as `MemoryMax` and `TasksMax` count. */
const PEAK_SHARE = 0.5;
/** `BANGER_FUZZ_MS` sets the time for a long run; `BANGER_FUZZ_SEED` repeats a run. */
const FUZZ_MS = Number(process.env["BANGER_FUZZ_MS"] ?? 30_000);
const SEED = Number(process.env["BANGER_FUZZ_SEED"] ?? Math.floor(Math.random() * 2 ** 31));

/** What mutated requests may leave behind: things under banger's own names, which the lab removes at its end. */
const OURS =
  /br-fc|tap-(?:fc|pool)|fc-rootfs-|BANGER-FORWARD|\/var\/lib\/banger\/(?:cow|slots|jail)|banger(?:-vms)?\.slice|172\.16\.0\.|route |nft table (?:inet|netdev) banger$|policy 420[123]:|^[+-] unit-file/;

export const scenario: Scenario = {
  name: "helper-flood",
  summary: "the helper survives a thousand connections, mutated and random requests, and changes only what is banger's",
  needs: ["banger"],
  timeoutMs: 15 * 60_000,
  async run(host) {
    await openLab(host);
    try {
      await drive(host, "askAll", [["ping", {}]]);
      const [before, treasure] = [await takeSnapshot(host), await lookAtTreasure(host)];
      const pid = await mainPid(host, "bangerd-root.service");
      deepEqual(await drive(host, "flood", { connections: CONNECTIONS }), { answered: true });
      await host.ok(["rm", "-f", MARK, STOP]);
      const occupying = drive(host, "occupy", { ...OCCUPIED, bridge: LAB.bridge, mark: MARK, stop: STOP });
      await host.until("the owner takes every place", `test -e ${MARK}`, 60_000);
      for (let count = 0; count < PINGS; count++)
        equal(((await askHelper(host, "priv.ping", {}, "root")) as { owner_uid: number }).owner_uid, 1000);
      const tasks = Number(
        await host.ok(["systemctl", "show", "--value", "-p", "TasksCurrent", "bangerd-root.service"]),
      );
      await host.ok(["touch", STOP]);
      const occupied = (await occupying) as Readonly<Record<string, number>>;
      host.note(`while root got ${PINGS} answers: ${JSON.stringify(occupied)}, ${tasks} tasks`);
      ok((occupied["closed"] ?? 0) > 0, "the owner found a place each time");
      ok((occupied["answered"] ?? 0) > 0, "none of the owner's verbs ran");
      host.note(`fuzz seed ${SEED}`);
      const counts = (await drive(host, "fuzz", { seed: SEED, durationMs: FUZZ_MS })) as Readonly<
        Record<string, number>
      >;
      host.note(JSON.stringify(counts));
      ok((counts["INVALID_REQUEST"] ?? 0) > 20, "too few requests were invalid");
      ok((counts["HELPER_REFUSED"] ?? 0) > 0, "no request reached a gate");
      equal(counts["INTERNAL"] ?? 0, 0, "a request caused an internal error");
      equal(counts["CLOSED"] ?? 0, 0, "a request had no answer");
      deepEqual(await drive(host, "flood", { connections: CONNECTIONS }), { answered: true });
      const limitOf = async (property: string): Promise<number> =>
        Number(await host.ok(["systemctl", "show", "--value", "-p", property, "bangerd-root.service"]));
      const peak = Number(await host.readFile("/sys/fs/cgroup/system.slice/bangerd-root.service/memory.peak"));
      host.note(`the helper's unit had ${Math.round(peak / 1024 ** 2)} MiB at most`);
      ok(peak < PEAK_SHARE * (await limitOf("MemoryMax")), `the helper's unit had ${peak} bytes`);
      ok(tasks < PEAK_SHARE * (await limitOf("TasksMax")), `the helper's unit had ${tasks} tasks`);
      equal(await mainPid(host, "bangerd-root.service"), pid, "the helper is another process now");
      equal(await lookAtTreasure(host), treasure);
      deepEqual(
        differences(before, await takeSnapshot(host)).filter((line) => !OURS.test(line)),
        [],
      );
    } finally {
      await closeLab(host);
    }
  },
};
