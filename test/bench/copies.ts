/** Copies into a guest and out of it, by two versions of banger. */

import { mkdir, rm, writeFile } from "node:fs/promises";
import { randomBytes } from "node:crypto";
import { join } from "node:path";
import type { Home } from "../support/banger.ts";
import { compare, type Ratio, time } from "./ratio.ts";

const BAR = 1 / 3;
const BIG_BYTES = 200 * 1024 * 1024;
/** As of a project with its dependencies. */
const TREE = { directories: 200, filesEach: 100, leastBytes: 200, mostBytes: 4200 };

const SOURCES = [
  ["big", "200 MB"],
  ["tree", "a tree of 20,000 small files"],
] as const;

async function makeSources(dir: string): Promise<void> {
  await mkdir(dir);
  await writeFile(join(dir, "big"), randomBytes(BIG_BYTES));
  const bytes = randomBytes(TREE.mostBytes * 2);
  for (let directory = 0; directory < TREE.directories; directory++) {
    const path = join(dir, "tree", `d${directory % 20}`, `d${directory}`);
    await mkdir(path, { recursive: true });
    for (let file = 0; file < TREE.filesEach; file++) {
      const size =
        TREE.leastBytes + (((directory * TREE.filesEach + file) * 7919) % (TREE.mostBytes - TREE.leastBytes));
      await writeFile(join(path, `file-${file}.ts`), bytes.subarray(file, file + size));
    }
  }
}

/** One VM of each banger runs, named `warm`. */
export async function compareCopies(ours: Home, theirs: Home, rounds: number): Promise<Ratio[]> {
  const dir = join(ours.dir, "copies");
  await makeSources(dir);
  const back = join(ours.dir, "back");
  const copyIn = async (home: Home, name: string): Promise<number> => {
    // What a round left to be written would disturb the next one.
    await home.ok(["vm", "exec", "warm", "--", "sh", "-c", `rm -rf /root/${name}; sync`], { timeoutMs: 300_000 });
    return await time([home.banger, "vm", "cp", join(dir, name), `warm:/root/${name}`], home.env);
  };
  const copyOut = async (home: Home, name: string): Promise<number> => {
    const elapsed = await time([home.banger, "vm", "cp", `warm:/root/${name}`, back], home.env);
    const same = Bun.spawnSync(["diff", "-rq", join(dir, name), back]);
    if (same.exitCode !== 0) throw new Error(`the copy differs: ${same.stdout.toString()}`);
    await rm(back, { recursive: true });
    return elapsed;
  };
  const rows: Ratio[] = [];
  for (const [name, what] of SOURCES) {
    for (const [direction, copy] of [
      ["in", copyIn],
      ["out", copyOut],
    ] as const) {
      const row = `cp of ${what} ${direction}: by the other banger`;
      rows.push(
        await compare(
          row,
          BAR,
          rounds,
          () => copy(ours, name),
          () => copy(theirs, name),
        ),
      );
    }
  }
  return rows;
}
