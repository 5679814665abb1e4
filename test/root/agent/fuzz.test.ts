/**
 * A hostile host by chance, from the protocol's tables, against the sanitizer build: valid frames in any order, spoilt ones, garbage.
 * The seed is printed; BANGER_FUZZ_SEED runs it again. `npm run test:full` sends a million frames.
 */

import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { readFileSync } from "node:fs";
import { AGENT_LIMITS, EXEC_FLAGS, HEADER_BYTES, NONCE_BYTES } from "../../../src/shared/agent/protocol.ts";
import { connect, encodeHello, Session, startAgent, type TestAgent, waitUntil } from "../../support/agent.ts";
import { encodeFrame } from "../../support/agent-frames.ts";
import {
  below,
  type Chance,
  chanceOf,
  cut,
  encoded,
  frameOf,
  namesTo,
  pick,
  spoil,
} from "../../support/random-frames.ts";

if (process.env["BANGER_TEST_ROOT"] !== "1") throw new Error("these tests run in namespaces: bun test/root/run.ts");

const FRAMES_TO_SEND = process.env["BANGER_TEST_LONG"] === "1" ? 1_000_000 : 20_000;
const SEED = Number(process.env["BANGER_FUZZ_SEED"] ?? crypto.getRandomValues(new Uint32Array(1))[0]);
console.log(`agent's fuzz: seed ${SEED}; BANGER_FUZZ_SEED=${SEED} runs it again`);

const AT_ONCE = 4;
/** One session in so many goes on with frames until the end, most end early by a refusal. */
const LONGEST = 400;
const LAST_WORDS = ["exited", "error", "done", "ready"];

setDefaultTimeout(3 * 3_600_000);

let agent: TestAgent;
beforeAll(async () => {
  // A process namespace of its own: whatever a spoilt frame may name, it names none of this machine's processes.
  // Its first process is a shell, which takes in whatever lost its parent.
  const init = ["sh", "-c", '"$@" & while :; do wait; done', "sh"];
  const prefix = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", ...init];
  agent = await startAgent({ prefix, env: { ASAN_OPTIONS: "detect_leaks=0:quarantine_size_mb=16:abort_on_error=1" } });
});
afterAll(async () => await agent[Symbol.asyncDispose]());

/** What may run: harmless however its bytes are spoilt, since a name without a slash is found in no directory of PATH but this one. */
const SCRIPTS: readonly string[] = [
  "",
  "exit 3",
  "cat",
  "echo out; echo err >&2",
  "head -c 200000 /dev/zero",
  "sleep 0.05 & exit 1",
  "kill -9 $$",
  "trap '' HUP TERM; cat; sleep 0.2",
  "exec cat <&- >&- 2>&-",
  "setsid cat",
];

function description(chance: Chance): Buffer[] {
  const argv = chance() < 0.9 ? ["/bin/sh", "-c", pick(chance, SCRIPTS)] : [`/nonexistent/${below(chance, 1000)}`];
  const frames = [encodeFrame("argument", {}, Buffer.from(argv.map((argument) => `${argument}\0`).join("")))];
  if (chance() < 0.3)
    frames.push(encodeFrame("variable", {}, Buffer.from(`V${below(chance, 9)}=${"v".repeat(below(chance, 500))}\0`)));
  if (chance() < 0.2)
    frames.push(encodeFrame("directory", {}, Buffer.from(pick(chance, ["/", "/tmp", "/nonexistent", "x"]))));
  if (chance() < 0.2)
    frames.push(encodeFrame("user", {}, Buffer.from(pick(chance, ["nobody", "0", "65534", "nonesuch", "4294967295"]))));
  return frames;
}

function exec(chance: Chance): Buffer {
  const flags = Object.values(EXEC_FLAGS).reduce(
    (sum, bit) => (chance() < 0.25 && bit !== EXEC_FLAGS.keep ? sum | bit : sum),
    0,
  );
  const timeoutMs = chance() < 0.3 ? 1 + below(chance, 100) : 0;
  return encodeFrame("exec", {
    flags,
    rows: below(chance, 100),
    columns: below(chance, 100),
    timeoutMs,
    killAfterMs: below(chance, 100),
  });
}

/** A frame for a running command, within the window at first. */
function during(chance: Chance): Buffer {
  switch (below(chance, 8)) {
    case 0:
      return encodeFrame("resize", { rows: below(chance, 500), columns: below(chance, 500) });
    case 1:
      // Not those that stop it for ever, or end it at once every time.
      return encodeFrame("signal", { number: pick(chance, [1, 2, 3, 10, 13, 15, 17, 18, 20, 28, 34, 64]) });
    case 2:
      return chance() < 0.1 ? encodeFrame("stdinEnd") : encodeFrame("stdin", {}, Buffer.from("\u0003\u0004\n"));
    default:
      return encodeFrame(
        "stdin",
        {},
        Buffer.alloc(below(chance, chance() < 0.02 ? AGENT_LIMITS.payloadBytes : 200), below(chance, 256)),
      );
  }
}

/** A frame with bytes, at the edges of what it may have. */
function atEdge(chance: Chance): Buffer {
  const { userBytes, directoryBytes, payloadBytes } = AGENT_LIMITS;
  const edge = pick(chance, [0, userBytes, directoryBytes, payloadBytes - 1]);
  const name = pick(chance, ["argument", "variable", "directory", "user", "stdin"] as const);
  return encodeFrame(name, {}, Buffer.alloc(edge + below(chance, 2), below(chance, 256)));
}

/** The frames of a session, not all of which are sense. */
function sessionOf(chance: Chance, most: number): Buffer[] {
  const frames: Buffer[] = [];
  const count = Math.min(most, 1 + below(chance, chance() < 0.3 ? LONGEST : 12));
  if (chance() < 0.75) frames.push(...description(chance), exec(chance));
  else if (chance() < 0.3)
    frames.push(...Array.from({ length: 1 + below(chance, 40) }, () => atEdge(chance)), exec(chance));
  while (frames.length < count) {
    if (chance() < 0.02) frames.push(atEdge(chance));
    else if (chance() < 0.9 && frames.length > 1) frames.push(during(chance));
    else frames.push(encoded(frameOf(chance, pick(chance, namesTo(chance() < 0.9 ? "guest" : "host")))));
  }
  const isSpoilt = chance() < 0.5;
  return frames.map((frame) => (isSpoilt && chance() < 0.05 ? spoil(chance, frame) : frame));
}

const childrenOf = (pid: number): readonly number[] =>
  readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8").trim().split(" ").filter(Boolean).map(Number);

/** Plays a session. What the agent says must be frames, with at most one last word and nothing after it. */
async function play(chance: Chance, frames: readonly Buffer[]): Promise<void> {
  const session = new Session(await connect(agent.socket));
  const nonce = Buffer.from(Array.from({ length: NONCE_BYTES }, () => below(chance, 256)));
  if (chance() < 0.1) session.write(Buffer.alloc(below(chance, 300), below(chance, 2)));
  session.write(encodeHello(nonce));
  expect((await session.take(36)).subarray(16, 32)).toEqual(nonce);
  const bytes = Buffer.concat([...frames]);
  const pieces = chance() < 0.2 ? cut(chance, bytes.subarray(0, 20_000)) : [bytes];
  for (const piece of pieces) session.write(piece);
  // Some hosts go without a word, the rest begin anew.
  if (chance() < 0.3) return session.close();
  session.write(Buffer.alloc(AGENT_LIMITS.payloadBytes + HEADER_BYTES));
  let last = "";
  for (;;) {
    const frame = await session.next();
    if (frame === null) break;
    expect(`${last} then ${frame.name}`).toBe(` then ${frame.name}`);
    if (LAST_WORDS.includes(frame.name)) last = frame.name;
  }
  session.close();
}

test(`${FRAMES_TO_SEND} frames`, async () => {
  const chance = chanceOf(SEED);
  let sent = 0;
  let sessions = 0;
  const playSome = async (): Promise<void> => {
    while (sent < FRAMES_TO_SEND) {
      const frames = sessionOf(chance, FRAMES_TO_SEND - sent);
      sent += frames.length;
      sessions += 1;
      await play(chanceOf(below(chance, 2 ** 31)), frames);
      if (sessions % 100 === 0) expect(await agent.complaints()).toBe("");
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, playSome));
  expect(await agent.complaints()).toBe("");
  // Nothing of all that stays: only the namespace's first process, and the agent.
  await waitUntil("every session and command has ended", () => {
    const [init = 0, ...others] = childrenOf(agent.pid);
    const [server = 0, ...orphans] = childrenOf(init);
    return server > 0 && [...others, ...orphans, ...childrenOf(server)].length === 0;
  });
  console.log(`agent's fuzz: ${sent} frames in ${sessions} sessions`);
});
