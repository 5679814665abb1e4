import { expect, test } from "bun:test";
import { writeCpio } from "../../../../src/daemon/kernel/write-cpio.ts";

/** Reads newc back by the format's description, independently of the writer. */
function readCpio(archive: Uint8Array): readonly { name: string; mode: number; contents: string; major: number }[] {
  const buffer = Buffer.from(archive);
  const entries = [];
  for (let at = 0; ;) {
    expect(at % 4).toBe(0);
    expect(buffer.toString("latin1", at, at + 6)).toBe("070701");
    const field = (index: number): number =>
      Number.parseInt(buffer.toString("latin1", at + 6 + index * 8, at + 14 + index * 8), 16);
    const [mode, size, major, nameBytes] = [field(1), field(6), field(9), field(11)];
    const name = buffer.toString("latin1", at + 110, at + 110 + nameBytes - 1);
    const data = Math.ceil((at + 110 + nameBytes) / 4) * 4;
    if (name === "TRAILER!!!") return entries;
    entries.push({ name, mode, contents: buffer.toString("latin1", data, data + size), major });
    at = Math.ceil((data + size) / 4) * 4;
  }
}

test("what is written can be read back, whatever the lengths", () => {
  const entries = ["", "a", "ab", "abc", "abcd"].map((contents, index) => ({
    path: `d/${"n".repeat(index + 1)}`,
    mode: 0o100644,
    contents: Buffer.from(contents),
  }));
  const read = readCpio(
    writeCpio([
      { path: "d", mode: 0o40755 },
      ...entries,
      { path: "dev/console", mode: 0o20600, device: { major: 5, minor: 1 } },
    ]),
  );
  expect(read.map(({ name }) => name)).toEqual(["d", "d/n", "d/nn", "d/nnn", "d/nnnn", "d/nnnnn", "dev/console"]);
  expect(read.slice(1, 6).map(({ contents }) => contents)).toEqual(["", "a", "ab", "abc", "abcd"]);
  expect(read.at(-1)).toMatchObject({ mode: 0o20600, major: 5 });
});
