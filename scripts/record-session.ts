/**
 * `bun scripts/record-session.ts [--outfile docs/session.svg]`: runs a few commands of dist/banger in a real terminal
 * and draws the result as an SVG picture for the README. Takes a minute or two; needs what `npm run setup` installs.
 */

import { mkdtemp, mkdir, rm, symlink, writeFile } from "node:fs/promises";
import { existsSync } from "node:fs";
import { homedir, tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { parseArgs } from "node:util";
import { type IBufferCell, Terminal } from "@xterm/headless";

const ROOT = resolve(import.meta.dir, "..");
const COLUMNS = 112;
const COMMAND_TIMEOUT_MS = 300_000;

/** Typed in this order; each ends before the next starts. */
const COMMANDS = [
  "banger run -d --name box",
  "banger exec box -- uname -sr",
  "echo 'pipes work' | banger exec box -- tr a-z A-Z",
  "banger exec box -- sh -c 'exit 42' || echo status $?",
  "banger ps",
  "banger rm box",
] as const;

/** A run of characters that look the same. */
interface Piece {
  readonly text: string;
  readonly color: string | null;
  readonly isBold: boolean;
  readonly isDim: boolean;
}

const PALETTE = ["#3b4252", "#e06c75", "#98c379", "#e5c07b", "#61afef", "#c678dd", "#56b6c2", "#d8dee9"] as const;
const CELL = { width: 8.4, height: 18, fontSize: 14 } as const;
const PADDING = 14;

/** Runs the commands in a shell in a terminal. Returns the final screen, by line. */
async function record(env: Readonly<Record<string, string>>): Promise<readonly (readonly Piece[])[]> {
  const terminal = new Terminal({ cols: COLUMNS, rows: 24, scrollback: 1000, allowProposedApi: true });
  for (const command of COMMANDS) {
    await write(terminal, `\u001b[32m$\u001b[0m ${command}\r\n`);
    const writes: Promise<void>[] = [];
    const child = Bun.spawn(["sh", "-c", command], {
      env,
      timeout: COMMAND_TIMEOUT_MS,
      killSignal: "SIGKILL",
      terminal: {
        cols: COLUMNS,
        rows: 24,
        data: (_: unknown, bytes: Uint8Array) => void writes.push(write(terminal, bytes.slice())),
      },
    });
    const status = await child.exited;
    await Promise.all(writes);
    if (status !== 0) throw new Error(`${command} ended with ${status}: ${lines(terminal).map(textOf).join("\n")}`);
  }
  return lines(terminal);
}

const write = async (terminal: Terminal, data: string | Uint8Array): Promise<void> =>
  await new Promise((resolve) => terminal.write(data, resolve));

const textOf = (pieces: readonly Piece[]): string => pieces.map(({ text }) => text).join("");

function lines(terminal: Terminal): readonly (readonly Piece[])[] {
  const { active } = terminal.buffer;
  const all = Array.from({ length: active.length }, (_, row) => {
    const line = active.getLine(row);
    const pieces: Piece[] = [];
    for (let column = 0; column < COLUMNS; column++) {
      const cell = line?.getCell(column);
      if (cell === undefined) break;
      const next = { text: cell.getChars() || " ", ...lookOf(cell) };
      const last = pieces.at(-1);
      const isSame =
        last !== undefined && last.color === next.color && last.isBold === next.isBold && last.isDim === next.isDim;
      if (isSame) pieces[pieces.length - 1] = { ...last, text: last.text + next.text };
      else pieces.push(next);
    }
    return pieces;
  });
  return all.slice(0, all.findLastIndex((pieces) => textOf(pieces).trim() !== "") + 1);
}

function lookOf(cell: IBufferCell): Omit<Piece, "text"> {
  const color = cell.isFgPalette() ? (PALETTE[cell.getFgColor() % PALETTE.length] ?? null) : null;
  return { color, isBold: cell.isBold() !== 0, isDim: cell.isDim() !== 0 };
}

const escapeXml = (text: string): string => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;");

/** Draws the picture. Pure. */
export function drawSvg(rows: readonly (readonly Piece[])[]): string {
  const width = Math.ceil(COLUMNS * CELL.width + 2 * PADDING);
  const height = rows.length * CELL.height + 2 * PADDING;
  const texts = rows.map((pieces, row) => {
    const spans = pieces.map(({ text, color, isBold, isDim }) => {
      const look = [
        color === null ? "" : ` fill="${color}"`,
        isBold ? ' font-weight="bold"' : "",
        isDim ? ' opacity="0.6"' : "",
      ].join("");
      return look === "" ? escapeXml(text) : `<tspan${look}>${escapeXml(text)}</tspan>`;
    });
    const y = PADDING + (row + 0.75) * CELL.height;
    return `<text x="${PADDING}" y="${y}" xml:space="preserve">${spans.join("").trimEnd()}</text>`;
  });
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}" role="img">
<title>A session with banger</title>
<rect width="100%" height="100%" rx="8" fill="#22272e"/>
<g font-family="ui-monospace, Menlo, Consolas, 'DejaVu Sans Mono', monospace" font-size="${CELL.fontSize}" fill="#d8dee9">
${texts.join("\n")}
</g>
</svg>
`;
}

/** Makes a separate home, with this user's image if there is one: building it takes minutes. */
async function main(outfile: string): Promise<void> {
  const home = await mkdtemp(join(tmpdir(), "bs-"));
  const env = {
    HOME: home,
    PATH: `${join(home, "bin")}:${process.env["PATH"] ?? "/usr/bin:/bin"}`,
    LANG: "C.UTF-8",
    TERM: "xterm-256color",
    XDG_RUNTIME_DIR: join(home, "run"),
  };
  const banger = async (...words: readonly string[]): Promise<void> => {
    const child = Bun.spawn([join(ROOT, "dist/banger"), ...words], { env, stdio: ["ignore", "ignore", "inherit"] });
    await child.exited;
  };
  try {
    await mkdir(join(home, "run"), { mode: 0o700 });
    await mkdir(join(home, "bin"));
    await symlink(join(ROOT, "dist/banger"), join(home, "bin/banger"));
    const state = join(home, ".local/state/banger");
    const own = join(homedir(), ".local/state/banger");
    await mkdir(state, { recursive: true, mode: 0o700 });
    for (const part of ["images", "kernels"]) {
      if (existsSync(join(own, part)))
        await Bun.spawn(["cp", "-a", "--sparse=always", join(own, part), state], {
          stdio: ["ignore", "ignore", "inherit"],
        }).exited;
    }
    await banger("image", "build", "debian-trixie");
    await writeFile(outfile, drawSvg(await record(env)));
  } finally {
    await banger("rm", "box");
    await banger("daemon", "stop");
    await rm(home, { recursive: true, force: true });
  }
}

if (import.meta.main) {
  const { values } = parseArgs({ options: { outfile: { type: "string", default: join(ROOT, "docs/session.svg") } } });
  await main(resolve(values.outfile));
  console.log(values.outfile);
}
