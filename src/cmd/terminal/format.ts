/** How things are written in tables. */

const STEPS = [
  ["d", 86_400],
  ["h", 3600],
  ["m", 60],
] as const;

/** `3m ago`, `2d ago`; under a minute `just now`. */
export function formatAge(ms: number): string {
  const seconds = Math.max(0, ms / 1000);
  for (const [unit, length] of STEPS) if (seconds >= length) return `${Math.floor(seconds / length)}${unit} ago`;
  return "just now";
}

/** A record as `name  value` rows; nested ones as `outer.inner`. */
export function flattenRecord(record: object, prefix = ""): (readonly [string, string])[] {
  return Object.entries(record).flatMap(([key, value]: [string, unknown]) => {
    if (Array.isArray(value)) return [[prefix + key, value.length === 0 ? "-" : value.join(", ")] as const];
    if (typeof value === "object" && value !== null) return flattenRecord(value, `${prefix}${key}.`);
    return [[prefix + key, value === null ? "-" : String(value)] as const];
  });
}
