/**
 * Sizes as people write them. Binary multiples throughout: `2G` and `2GiB` are the same.
 *
 * By hand: `bytes` reads `2G` as two bytes.
 */

const UNITS: Readonly<Record<string, number>> = { K: 1024, M: 1024 ** 2, G: 1024 ** 3, T: 1024 ** 4 };
const SIZE = /^(\d{1,15}(?:\.\d{1,6})?)(?:([KMGT])(?:i?B)?)?$/i;

/** Bytes of `512M`, `2G`, `1.5GiB`; a bare number is MiB. Null when it is none of these, or not a whole number of bytes. */
export function parseSize(text: string): number | null {
  const match = SIZE.exec(text.trim());
  if (match === null) return null;
  const bytes = Number(match[1]) * (UNITS[(match[2] ?? "M").toUpperCase()] ?? NaN);
  return Number.isSafeInteger(bytes) ? bytes : null;
}

/** `1.5 GiB`; at most one decimal. */
export function formatBytes(bytes: number): string {
  let value = bytes;
  for (const unit of ["B", "KiB", "MiB", "GiB"]) {
    if (value < 1024) return `${Number(value.toFixed(1))} ${unit}`;
    value /= 1024;
  }
  return `${Number(value.toFixed(1))} TiB`;
}
