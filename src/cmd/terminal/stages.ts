/** What is under way: a live line on a terminal, one plain line for each stage elsewhere. */

import type { Progress } from "../../shared/contract/owner-api.ts";
import { formatDuration } from "../../shared/text/durations.ts";
import { formatBytes } from "../../shared/text/sizes.ts";
import { printableLine } from "./printable.ts";

export interface Stages {
  show(progress: Progress): void;
  /** Ends the stage that is shown. Call when the work is over. */
  end(): void;
}

/** Where a live line is drawn. */
export interface LiveLine {
  /** Draws over the line that is there; an empty text leaves nothing. */
  draw(text: string): void;
  /** Writes a line that stays. */
  keep(text: string): void;
  columns(): number;
}

export interface Clock {
  now(): number;
  /** Calls again and again, without keeping the process alive; the returned function ends it. */
  every(ms: number, call: () => void): () => void;
}

export const CLOCK: Clock = {
  now: () => performance.now(),
  every: (ms, call) => {
    const timer = setInterval(call, ms);
    timer.unref();
    return () => clearInterval(timer);
  },
};

const FRAME_MS = 100;
const FRAMES = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏";
const PLAIN_FRAMES = "-\\|/";
/** What is over sooner needs nothing that moves. */
const PATIENCE_MS = 1000;
const BAR_WIDTH = 20;
/** Below it, progress counts things, not bytes. */
const LEAST_BYTES = 1024 * 1024;

/** Whether a terminal of this environment shows more than ASCII (setlocale(3)). */
export function isUnicode(env: Readonly<Record<string, string | undefined>>): boolean {
  const locale = [env["LC_ALL"], env["LC_CTYPE"], env["LANG"]].find((value) => value !== undefined && value !== "");
  return /utf-?8/i.test(locale ?? "");
}

/**
 * Stages on a terminal. Each keeps a line with its time when it is over; one that comes back gets no second line.
 * `patience` true draws nothing for a second and keeps no line: for a wait that is no stage of anything.
 */
export function liveStages(line: LiveLine, clock: Clock, frames: boolean, patience = false): Stages {
  const begun = new Map<string, number>();
  const kept = new Set<string>();
  let current: { readonly key: string; progress: Progress; readonly since: number } | null = null;
  let stop: (() => void) | null = null;

  const draw = (): void => {
    if (current === null) return;
    const elapsed = clock.now() - current.since;
    if (patience && elapsed < PATIENCE_MS) return;
    line.draw(formatLive(current.progress, elapsed, frames ? FRAMES : PLAIN_FRAMES).slice(0, line.columns() - 1));
  };
  const settle = (): void => {
    if (current === null) return;
    const { key, progress, since } = current;
    current = null;
    line.draw("");
    if (patience || kept.has(key)) return;
    kept.add(key);
    line.keep(`${formatProgress(progress, null)}  ${formatDuration(clock.now() - since)}`);
  };
  return {
    show: (progress) => {
      const key = `${progress.stage} ${progress.message}`;
      // Drawn at its turn: bytes may be counted a thousand times a second.
      if (current?.key === key) {
        current.progress = progress;
        return;
      }
      settle();
      const since = begun.get(key) ?? clock.now();
      begun.set(key, since);
      current = { key, progress, since };
      stop ??= clock.every(FRAME_MS, draw);
      draw();
    },
    end: () => {
      stop?.();
      stop = null;
      settle();
    },
  };
}

/** Elsewhere: a line as each stage begins. */
export function plainStages(say: (text: string) => void): Stages {
  const begun = new Set<string>();
  return {
    show: (progress) => {
      const key = `${progress.stage} ${progress.message}`;
      if (begun.has(key)) return;
      begun.add(key);
      say(formatProgress(progress, null));
    },
    end: () => undefined,
  };
}

function formatLive(progress: Progress, elapsedMs: number, frames: string): string {
  const text = formatProgress(progress, elapsedMs);
  if (elapsedMs < PATIENCE_MS) return text;
  const { done, total } = progress;
  const frame = [...frames][Math.floor(elapsedMs / FRAME_MS) % [...frames].length] ?? "";
  const bar = done !== undefined && total !== undefined && total > LEAST_BYTES ? `${formatBar(done, total)} ` : "";
  return `${frame} ${bar}${text} ${Math.floor(elapsedMs / 1000)}s`;
}

/** `[########            ]` */
export function formatBar(done: number, total: number): string {
  const filled = Math.max(0, Math.min(BAR_WIDTH, Math.floor((done / total) * BAR_WIDTH)));
  return `[${"#".repeat(filled)}${" ".repeat(BAR_WIDTH - filled)}]`;
}

/** `download 12.5 MiB of 80 MiB, 2.1 MiB/s, 32s left`; counts are bytes when they are large. */
export function formatProgress({ message, done, total }: Progress, elapsedMs: number | null): string {
  const text = printableLine(message);
  if (done === undefined) return text;
  const isBytes = (total ?? done) > LEAST_BYTES;
  const count = (value: number): string => (isBytes ? formatBytes(value) : String(value));
  const parts = [`${text} ${count(done)}${total === undefined ? "" : ` of ${count(total)}`}`];
  if (isBytes && elapsedMs !== null && elapsedMs > 500 && done > 0) {
    parts.push(`${formatBytes((done * 1000) / elapsedMs)}/s`);
    if (total !== undefined && total > done) parts.push(`${formatDuration(((total - done) * elapsedMs) / done)} left`);
  }
  return parts.join(", ");
}
