/** What can be said about the host's clock: guests start with it, and TLS fails in all of them when it is wrong. */

import { stat } from "node:fs/promises";
import { BangerError } from "../../shared/errors.ts";
import type { DoctorRow } from "../../shared/contract/schemas.ts";
import { tryTool } from "../host/run-tool.ts";

const TIMEOUT_MS = 5000;

export interface ClockFacts {
  readonly now: Date;
  /** What was made on this host and must be older than now. */
  readonly made: readonly { readonly what: string; readonly at: Date }[];
  /** What `timedatectl show` printed; null where nothing answers it. */
  readonly timedatectl: string | null;
}

/** Whether something keeps the clock, and whether it is plainly wrong: before a thing was made. WARN at most. Pure. */
export function describeClock({ now, made, timedatectl }: ClockFacts): DoctorRow {
  const row = (level: DoctorRow["level"], message: string, fix: string | null): DoctorRow => ({
    check: "clock",
    level,
    message,
    fix,
  });
  const said = (key: string): boolean | null => {
    const value = new RegExp(`^${key}=(yes|no)$`, "m").exec(timedatectl ?? "")?.[1];
    return value === undefined ? null : value === "yes";
  };
  const keep =
    said("CanNTP") === false
      ? "sudo apt install systemd-timesyncd"
      : said("CanNTP") === null
        ? "sudo date --set 'YYYY-MM-DD HH:MM'"
        : "sudo timedatectl set-ntp true";
  const future = made.filter(({ at }) => at > now).toSorted((a, b) => b.at.getTime() - a.at.getTime())[0];
  if (future !== undefined) {
    const [today, then] = [now, future.at].map((date) => date.toISOString());
    return row(
      "WARN",
      `reads ${today}, but ${future.what} is dated ${then}, which is later: the clock is wrong now, or was wrong then`,
      keep,
    );
  }
  switch (said("NTPSynchronized")) {
    case true:
      return row("PASS", "kept by NTP", null);
    case false:
      return said("NTP") === true
        ? row("WARN", "NTP is on but has not set the clock yet", "timedatectl timesync-status")
        : row("WARN", "no time service keeps the clock right", keep);
    case null:
      return row("PASS", "plausible; this host does not report if NTP is in use", null);
  }
}

/** The row of this host. `images` are the times at which images were made. */
export async function examineClock(
  images: readonly { readonly name: string; readonly createdAt: string }[],
  signal: AbortSignal,
): Promise<DoctorRow> {
  const program = process.execPath;
  return describeClock({
    now: new Date(),
    made: [
      { what: program, at: (await stat(program)).mtime },
      ...images.map(({ name, createdAt }) => ({ what: `image ${name}`, at: new Date(createdAt) })),
    ],
    timedatectl: await askTimedatectl(signal),
  });
}

async function askTimedatectl(signal: AbortSignal): Promise<string | null> {
  try {
    const { exitCode, stdout } = await tryTool(["timedatectl", "show"], { timeoutMs: TIMEOUT_MS, signal });
    return exitCode === 0 ? stdout : null;
  } catch (thrown) {
    signal.throwIfAborted();
    // Not installed, or a bus on which nobody answers: then there is nothing to be said.
    if (thrown instanceof BangerError) return null;
    throw thrown;
  }
}
