import { expect, test } from "bun:test";
import { type ClockFacts, describeClock, examineClock } from "../../../../src/daemon/doctor/clock.ts";

const now = new Date("2026-11-24T12:00:00Z");
const show = (ntp: string, synchronized: string, can = "yes"): string =>
  `Timezone=Etc/UTC\nLocalRTC=no\nCanNTP=${can}\nNTP=${ntp}\nNTPSynchronized=${synchronized}\n`;
const describe = (timedatectl: string | null, made: ClockFacts["made"] = []) =>
  describeClock({ now, made, timedatectl });

test.each([
  [show("yes", "yes"), "PASS", null],
  // Kept by something that systemd doesn't start, chrony for one.
  [show("no", "yes", "no"), "PASS", null],
  [show("yes", "no"), "WARN", "timedatectl timesync-status"],
  [show("no", "no"), "WARN", "sudo timedatectl set-ntp true"],
  [show("no", "no", "no"), "WARN", "sudo apt install systemd-timesyncd"],
  [null, "PASS", null],
  ["", "PASS", null],
  ["NTPSynchronized=perhaps\n", "PASS", null],
] as const)("timedatectl says %j", (timedatectl, level, fix) => {
  expect(describe(timedatectl)).toMatchObject({ check: "clock", level, fix });
});

test("a clock before something that was made already is wrong, though NTP is content", () => {
  const made = [
    { what: "/usr/local/bin/bangerd", at: new Date("2026-11-24T11:59:59Z") },
    { what: "image a", at: new Date("2026-12-01T00:00:00Z") },
    { what: "image b", at: new Date("2027-01-02T03:04:05Z") },
  ];
  const row = describe(show("yes", "yes"), made);
  expect(row).toMatchObject({ level: "WARN", fix: "sudo timedatectl set-ntp true" });
  expect(row.message).toContain("2026-11-24T12:00:00.000Z");
  expect(row.message).toContain("image b is dated 2027-01-02T03:04:05.000Z");
  expect(describe(show("yes", "yes"), made.slice(0, 1)).level).toBe("PASS");
  expect(describe(null, made).fix).toStartWith("sudo date --set ");
});

test("this host's clock is looked at, and a cancelled look ends", async () => {
  const row = await examineClock([], new AbortController().signal);
  expect(row.check).toBe("clock");
  expect(["PASS", "WARN"]).toContain(row.level);
  const future = await examineClock(
    [{ name: "later", createdAt: "2999-01-01T00:00:00.000Z" }],
    new AbortController().signal,
  );
  expect(future).toMatchObject({ level: "WARN", message: expect.stringContaining("image later is dated 2999-01-01") });
  await expect(examineClock([], AbortSignal.abort(new Error("enough")))).rejects.toThrow("enough");
});
