/** Which user and group ids VMs get: a range that nobody on this host has or may hand out. */

/** One VM, one id; more VMs than any host of one developer holds. */
export const RESERVED_COUNT = 4096;
/**
 * Above what distributions, containers (524288 to 1879048191), subordinate ids (by default up to 600100000) and SSSD's
 * mapping of directory accounts (200000 to 2000200000) use, below what systemd keeps for foreign ids (2147352576 and up).
 * Source: systemd's "Users, Groups, UIDs and GIDs", login.defs(5), sssd-ldap(5) "ID MAPPING".
 */
export const RESERVABLE = { first: 2_001_000_000, end: 2_147_000_000 } as const;

export interface IdTables {
  /** Texts of /etc/passwd, /etc/group: the id is the third field. */
  readonly accounts: readonly string[];
  /** Texts of /etc/subuid, /etc/subgid: first and count are the second and third fields. */
  readonly subordinates: readonly string[];
}

interface Range {
  readonly first: number;
  readonly count: number;
}

const whole = (field: string | undefined): number => (/^\d{1,10}$/.test(field ?? "") ? Number(field) : Number.NaN);

/** Every range the tables name. */
export function takenRanges(tables: IdTables): readonly Range[] {
  const fields = (text: string): readonly (readonly string[])[] => text.split("\n").map((line) => line.split(":"));
  const single = tables.accounts.flatMap(fields).map((row) => ({ first: whole(row[2]), count: 1 }));
  const many = tables.subordinates.flatMap(fields).map((row) => ({ first: whole(row[1]), count: whole(row[2]) }));
  return [...single, ...many].filter(
    ({ first, count }) => Number.isSafeInteger(first) && Number.isSafeInteger(count) && count > 0,
  );
}

/** The first free range of {@link RESERVED_COUNT}; null when there is none. */
export function pickReservedRange(tables: IdTables): Range | null {
  const taken = takenRanges(tables);
  for (let first: number = RESERVABLE.first; first + RESERVED_COUNT <= RESERVABLE.end;) {
    const inTheWay = taken.find((range) => range.first < first + RESERVED_COUNT && first < range.first + range.count);
    if (inTheWay === undefined) return { first, count: RESERVED_COUNT };
    first = Math.max(first + 1, inTheWay.first + inTheWay.count);
  }
  return null;
}
