/**
 * Durations as people write them.
 *
 * By hand: `ms` doesn't read `2h30m`, and both it and `parse-duration` take negative ones.
 */

const UNITS_MS: Readonly<Record<string, number>> = { d: 86_400_000, h: 3_600_000, m: 60_000, s: 1000, ms: 1 };

/** Milliseconds of `30s`, `10m`, `2h30m`, `500ms`; `0` is zero. Null when it is none of these. */
export function parseDuration(text: string): number | null {
  const trimmed = text.trim();
  if (trimmed === "0") return 0;
  if (!/^(?:\d{1,9}(?:ms|[dhms]))+$/.test(trimmed)) return null;
  let total = 0;
  for (const [, digits, unit] of trimmed.matchAll(/(\d+)(ms|[dhms])/g))
    total += Number(digits) * (UNITS_MS[unit ?? ""] ?? NaN);
  return Number.isSafeInteger(total) ? total : null;
}

/** `850 ms`, `1.9s`, `2m05s`. */
export function formatDuration(ms: number): string {
  if (ms < 1000) return `${Math.round(ms)} ms`;
  if (ms < 60_000) return `${(ms / 1000).toFixed(1)}s`;
  const seconds = Math.round(ms / 1000);
  return `${Math.floor(seconds / 60)}m${String(seconds % 60).padStart(2, "0")}s`;
}
