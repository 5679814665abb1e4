import { expect, test } from "bun:test";
import fc from "fast-check";
import { TarGate } from "../../src/cmd/guest/copy/tar-gate.ts";
import { BangerError } from "../../src/shared/errors.ts";
import { makeArchive, makePax } from "../support/tar.ts";

function pass(stream: Uint8Array, chunk: number): { readonly bytes: Buffer; readonly skipped: number } {
  const gate = new TarGate(null);
  const passed: Uint8Array[] = [];
  for (let at = 0; at < stream.length; at += chunk) passed.push(...gate.push(stream.subarray(at, at + chunk)));
  return { bytes: Buffer.concat([...passed, gate.end()]), skipped: gate.skipped.length };
}

const SOUND = makeArchive([
  { name: "a/", type: "5", mode: 0o1777 },
  { name: "a/x", mode: 0o4755, data: "x".repeat(700) },
  makePax({ path: `a/${"long".repeat(60)}`, mtime: "1700000000.5", "SCHILY.xattr.user.x": "y" }),
  { name: "a/long", data: "text" },
  { name: "L", type: "L", data: `a/${"other".repeat(40)}\0` },
  { name: "a/other", type: "1", link: "a/x" },
  { name: "a/l", type: "2", link: "../.." },
  { name: "a/null", type: "3", major: 1, minor: 3 },
]);

/** Recomputes the sum of the header that holds the byte, so that a change gets past it. */
function resign(bytes: Buffer, at: number): void {
  const header = bytes.subarray(at - (at % 512), at - (at % 512) + 512);
  header.write("        ", 148);
  const sum = header.reduce((total, byte) => total + byte, 0);
  header.write(`${sum.toString(8).padStart(6, "0")}\0 `, 148);
}

test("whatever the stream: it is refused, or what passes passes again unchanged and holds nothing special", () => {
  const change = fc.tuple(fc.nat(SOUND.length - 1), fc.nat(255));
  fc.assert(
    fc.property(fc.array(change, { maxLength: 4 }), fc.integer({ min: 1, max: 2000 }), (changes, chunk) => {
      const bytes = Buffer.from(SOUND);
      for (const [at, value] of changes) bytes[at] = value;
      for (const [at] of changes) resign(bytes, at);
      let first: Buffer;
      try {
        first = pass(bytes, chunk).bytes;
      } catch (thrown) {
        expect(thrown).toBeInstanceOf(BangerError);
        return;
      }
      expect(pass(first, 512)).toEqual({ bytes: first, skipped: 0 });
    }),
    { numRuns: 2000 },
  );
});

test("chunks don't matter", () => {
  const whole = pass(SOUND, SOUND.length);
  expect(whole.skipped).toBe(1);
  for (const chunk of [1, 7, 511, 512, 513, 1024]) expect(pass(SOUND, chunk)).toEqual(whole);
});
