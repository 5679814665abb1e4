/** Tar streams as a hostile guest writes them: any header, right checksum. */

const BLOCK = 512;

export interface Member {
  readonly name: string;
  /** The typeflag; default a file. */
  readonly type?: string;
  readonly mode?: number;
  readonly link?: string;
  readonly data?: string;
  /** What the header says; default the length of the data. */
  readonly size?: number;
  readonly major?: number;
  readonly minor?: number;
}

function octal(value: number, length: number): string {
  return `${value.toString(8).padStart(length - 1, "0")}\0`;
}

export function makeMember({ name, type = "0", mode = 0o644, link = "", data = "", ...more }: Member): Buffer {
  const header = Buffer.alloc(BLOCK);
  header.write(name, 0, "latin1");
  header.write(octal(mode, 8), 100);
  header.write(octal(0, 8), 108);
  header.write(octal(0, 8), 116);
  header.write(octal(more.size ?? data.length, 12), 124);
  header.write(octal(1_700_000_000, 12), 136);
  header.write("        ", 148);
  header.write(type, 156, "latin1");
  header.write(link, 157, "latin1");
  header.write("ustar\u000000", 257, "latin1");
  header.write(octal(more.major ?? 0, 8), 329);
  header.write(octal(more.minor ?? 0, 8), 337);
  header.write(
    `${octal(
      header.reduce((sum, byte) => sum + byte, 0),
      7,
    )} `,
    148,
  );
  const body = Buffer.alloc(Math.ceil(data.length / BLOCK) * BLOCK);
  body.write(data, "latin1");
  return Buffer.concat([header, body]);
}

/** `LENGTH KEY=VALUE\n` records before a member. */
export function makePax(records: Readonly<Record<string, string>>): Buffer {
  const data = Object.entries(records)
    .map(([key, value]) => {
      const rest = ` ${key}=${value}\n`.length;
      const length = [1, 2, 3, 4].map((digits) => rest + digits).find((total) => String(total).length + rest === total);
      return `${length} ${key}=${value}\n`;
    })
    .join("");
  return makeMember({ name: "pax", type: "x", data });
}

export function makeArchive(parts: readonly (Member | Buffer)[]): Buffer {
  return Buffer.concat([
    ...parts.map((part) => (Buffer.isBuffer(part) ? part : makeMember(part))),
    Buffer.alloc(2 * BLOCK),
  ]);
}
