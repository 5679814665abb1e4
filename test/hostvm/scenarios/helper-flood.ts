import { deepEqual, equal, ok } from "node:assert/strict";
import type { Scenario } from "../scenario.ts";
import { closeLab, drive, lookAtTreasure, openLab } from "../support/helper-lab.ts";
import { mainPid } from "../support/installed.ts";
import { differences, takeSnapshot } from "../support/snapshot.ts";

const CONNECTIONS = 1000;
/** `BANGER_FUZZ_MS` for a long run; `BANGER_FUZZ_SEED` to repeat one. */
const FUZZ_MS = Number(process.env["BANGER_FUZZ_MS"] ?? 30_000);
const SEED = Number(process.env["BANGER_FUZZ_SEED"] ?? Math.floor(Math.random() * 2 ** 31));

/** What mutated requests may leave: things under banger's own names, which the lab's end removes. */
const OURS =
  /br-fc|tap-(?:fc|pool)|fc-rootfs-|BANGER-FORWARD|\/var\/lib\/banger\/(?:cow|slots|jail)|banger(?:-vms)?\.slice|172\.16\.0\.|route |^[+-] unit-file/;

export const scenario: Scenario = {
  name: "helper-flood",
  summary:
    "a thousand connections, and mutated and random requests: the helper stays, and nothing but banger's own changes",
  needs: ["banger"],
  timeoutMs: 15 * 60_000,
  async run(host) {
    await openLab(host);
    try {
      await drive(host, "askAll", [["ping", {}]]);
      const [before, treasure] = [await takeSnapshot(host), await lookAtTreasure(host)];
      const pid = await mainPid(host, "bangerd-root.service");
      deepEqual(await drive(host, "flood", { connections: CONNECTIONS }), { answered: true });
      host.note(`fuzz seed ${SEED}`);
      const counts = (await drive(host, "fuzz", { seed: SEED, durationMs: FUZZ_MS })) as Readonly<
        Record<string, number>
      >;
      host.note(JSON.stringify(counts));
      ok((counts["INVALID_REQUEST"] ?? 0) > 20, "hardly a request was invalid");
      ok((counts["HELPER_REFUSED"] ?? 0) > 0, "no request got as far as a gate");
      equal(counts["INTERNAL"] ?? 0, 0, "a request ended in a bug");
      equal(counts["CLOSED"] ?? 0, 0, "a request had no answer");
      deepEqual(await drive(host, "flood", { connections: CONNECTIONS }), { answered: true });
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
