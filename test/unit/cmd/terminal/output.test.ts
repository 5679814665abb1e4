import { describe, expect, test } from "bun:test";
import { BangerError } from "../../../../src/shared/errors.ts";
import { formatAge, flattenRecord } from "../../../../src/cmd/terminal/format.ts";
import { formatTable, Output, OutputClosed } from "../../../../src/cmd/terminal/output.ts";
import { formatBar, formatProgress, isUnicode } from "../../../../src/cmd/terminal/stages.ts";
import { printable } from "../../../../src/cmd/terminal/printable.ts";
import { runInProcess, TextSink } from "../../../support/cli.ts";
import { makeVm } from "../../../support/vm-record.ts";

const makeOutput = (terminal: boolean, env: Readonly<Record<string, string>> = {}) => {
  const [stdout, stderr] = [new TextSink(terminal), new TextSink(terminal)];
  return { out: new Output({ stdout, stderr, env }), stdout, stderr };
};

describe("tables", () => {
  test("columns are as wide as their widest cell, also where letters are wide", () => {
    expect(
      formatTable([
        ["NAME", "N"],
        ["箱子", "1"],
        ["a-longer-one", "12"],
      ]),
    ).toBe("NAME          N\n箱子          1\na-longer-one  12\n");
  });

  test("a cell can't steer the terminal nor break the row", () => {
    expect(formatTable([["\u001b[2J", "a\nb\r"]])).toBe("\\x1b[2J  a b\\x0d\n");
    expect(printable("\u009b31m\tok\n\u007f")).toBe("\\x9b31m\tok\n\\x7f");
  });

  test("vm list", async () => {
    const vms = [
      makeVm({
        state: "running",
        address: "127.0.0.1:40001",
        createdAt: new Date(Date.now() - 7_200_000).toISOString(),
      }),
      makeVm({ id: "ba9876543210", name: "quick-otter", createdAt: new Date(Date.now() - 200_000).toISOString() }),
    ];
    const result = await runInProcess(["ps", "-a"], { "vm.list": vms });
    expect(result.stdout).toBe(
      [
        "ID            NAME         STATE    IMAGE          ADDRESS          VCPU  MEMORY  DISK   WORKSPACE  CREATED\n",
        "0123456789ab  box          running  debian-trixie  127.0.0.1:40001  2     1 GiB   8 GiB  -          2h ago\n",
        "ba9876543210  quick-otter  stopped  debian-trixie  -                2     1 GiB   8 GiB  -          3m ago\n",
      ].join(""),
    );
    expect((await runInProcess(["ps", "-aq"], { "vm.list": vms })).stdout).toBe("0123456789ab\nba9876543210\n");
    expect(JSON.parse((await runInProcess(["ps", "--json"], { "vm.list": vms })).stdout)).toEqual(vms);
  });

  test("a record is rows", () => {
    expect(flattenRecord({ a: 1, b: { c: null, d: [] }, e: ["x", "y"] })).toEqual([
      ["a", "1"],
      ["b.c", "-"],
      ["b.d", "-"],
      ["e", "x, y"],
    ]);
  });

  test.each([
    [-5000, "just now"],
    [59_000, "just now"],
    [60_000, "1m ago"],
    [3_599_000, "59m ago"],
    [86_400_000 * 3, "3d ago"],
  ])("%d ms is %s", (ms, text) => expect(formatAge(ms)).toBe(text));
});

describe("errors", () => {
  const error = new BangerError("GUEST_NOT_READY", "no answer; last words:\n  panic\u001b[0m", {
    op: "op-0123456789ab",
    hint: "banger vm logs box",
  });

  test("code on the first line, then the rest, the next command, the operation", () => {
    const { out, stderr, stdout } = makeOutput(false);
    out.error(error);
    expect(stderr.text).toBe(
      "error: no answer; last words: [GUEST_NOT_READY]\n  panic\ntry: banger vm logs box\noperation: op-0123456789ab\n",
    );
    expect(stdout.text).toBe("");
  });

  test("as JSON on stdout", () => {
    const { out, stderr, stdout } = makeOutput(false);
    out.error(error, true);
    expect(JSON.parse(stdout.text)).toEqual({ error: error.toDocument() });
    expect(stderr.text).toBe("");
  });
});

describe("colour", () => {
  test.each([
    [true, {}, true],
    [false, {}, false],
    [true, { NO_COLOR: "1" }, false],
    [true, { NO_COLOR: "" }, true],
    [true, { TERM: "dumb" }, false],
  ])("terminal %p with %p: %p", (terminal, env, has) => {
    const { out, stderr } = makeOutput(terminal, env as Record<string, string>);
    out.error(new BangerError("FAILED", "x"));
    expect(stderr.text.includes("\u001b")).toBe(has);
  });

  test("--no-color", () => {
    const { out, stderr } = makeOutput(true);
    out.disableColor();
    out.warn("x");
    expect(stderr.text).toBe("warning: x\n");
  });
});

describe("stages", () => {
  const progress = [
    { stage: "image", message: "downloading", done: 1, total: 3 },
    { stage: "image", message: "downloading", done: 2, total: 3 },
    { stage: "boot", message: "booting" },
    { stage: "image", message: "downloading", done: 3, total: 3 },
  ];

  test("elsewhere than on a terminal: one plain line each", () => {
    const { out, stderr } = makeOutput(false);
    const stages = out.stages();
    for (const one of progress) stages.show(one);
    stages.end();
    expect(stderr.text).toBe("downloading 1 of 3\nbooting\n");
  });

  /** A terminal's lines after all that was written: `\r` and erasing are carried out. */
  const screen = (text: string): string[] =>
    text.split("\n").map((line) => line.slice(line.lastIndexOf("\u001b[2K") + 1).replace(/^\[2K|\r$/g, ""));

  /** Time that passes when the test says so. */
  const makeLive = (env: Readonly<Record<string, string>> = {}) => {
    let now = 0;
    const calls = new Set<() => void>();
    const clock = {
      now: () => now,
      every: (_: number, call: () => void) => {
        calls.add(call);
        return () => calls.delete(call);
      },
    };
    const [stdout, stderr] = [new TextSink(true), new TextSink(true)];
    const pass = (ms: number): void => {
      now += ms;
      for (const call of calls) call();
    };
    return { out: new Output({ stdout, stderr, env, clock }), stderr, stdout, pass, calls };
  };

  test("on a terminal: what is over keeps a line with its time, what isn't has the last one", () => {
    const { out, stderr, pass, calls } = makeLive();
    const stages = out.stages();
    for (const one of progress) {
      stages.show(one);
      pass(700);
    }
    expect(screen(stderr.text)).toEqual(["downloading 2 of 3  1.4s", "booting  700 ms", "- downloading 3 of 3 2s"]);
    out.note("a notice between");
    expect(screen(stderr.text).slice(2)).toEqual(["a notice between", ""]);
    pass(100);
    expect(screen(stderr.text).slice(2)).toEqual(["a notice between", "\\ downloading 3 of 3 2s"]);
    stages.end();
    out.note("ready");
    expect(screen(stderr.text).slice(2)).toEqual(["a notice between", "ready", ""]);
    expect(calls.size).toBe(0);
  });

  test("nothing moves in the first second; then something does at every turn", () => {
    const { out, stderr, pass } = makeLive({ LANG: "en_US.UTF-8" });
    const stages = out.stages();
    stages.show({ stage: "boot", message: "booting" });
    const seen = [900, 100, 100, 100, 60_000].map((ms) => {
      pass(ms);
      return screen(stderr.text).at(-1);
    });
    expect(seen).toEqual(["booting", "⠋ booting 1s", "⠙ booting 1s", "⠹ booting 1s", "⠹ booting 61s"]);
    stages.end();
    expect(screen(stderr.text)).toEqual(["booting  1m01s", ""]);
  });

  test("bytes have a bar", () => {
    const MIB = 1024 ** 2;
    const { out, stderr, pass } = makeLive();
    const stages = out.stages();
    stages.show({ stage: "x", message: "pulling", done: 10 * MIB, total: 40 * MIB });
    pass(2000);
    expect(screen(stderr.text).at(-1)).toBe("- [#####               ] pulling 10 MiB of 40 MiB, 5 MiB/s, 6.0s left 2s");
    expect([formatBar(0, 5), formatBar(9, 5), formatBar(1, 2)]).toEqual([
      `[${" ".repeat(20)}]`,
      `[${"#".repeat(20)}]`,
      `[${"#".repeat(10)}${" ".repeat(10)}]`,
    ]);
  });

  test("an answer in between leaves no half line; an answer's terminal is another one", () => {
    const { out, stderr, stdout, pass } = makeLive();
    const stages = out.stages();
    stages.show({ stage: "x", message: "working" });
    out.line("answer");
    expect(screen(stderr.text)).toEqual([""]);
    pass(100);
    stages.end();
    expect(stdout.text).toBe("answer\n");
  });

  test("a wait is shown after a second, and leaves no line", async () => {
    const { out, stderr, pass, calls } = makeLive();
    const work = Promise.withResolvers<number>();
    const waited = out.waiting("Starting the daemon", async () => await work.promise);
    pass(900);
    expect(screen(stderr.text).at(-1)).toBe("");
    pass(2200);
    expect(screen(stderr.text).at(-1)).toBe("/ Starting the daemon 3s");
    work.resolve(7);
    expect(await waited).toBe(7);
    expect(screen(stderr.text)).toEqual([""]);
    expect(calls.size).toBe(0);
    const piped = makeOutput(false);
    await piped.out.waiting("Starting the daemon", async () => undefined);
    expect(piped.stderr.text).toBe("");
  });

  test("a stage's text can't steer the terminal", () => {
    const { out, stderr, pass } = makeLive();
    const stages = out.stages();
    stages.show({ stage: "x", message: "evil\u001b]0;x\u0007\u009b2J\r" });
    pass(1500);
    stages.end();
    expect(stderr.text.replaceAll("\r\u001b[2K", "")).not.toMatch(/(?!\n)\p{Cc}/u);
  });

  test.each([
    [{ LANG: "C.UTF-8" }, true],
    [{ LC_ALL: "C", LANG: "en_US.UTF-8" }, false],
    [{ LC_ALL: "", LC_CTYPE: "de_DE.utf8" }, true],
    [{}, false],
  ] as const)("%p shows more than ASCII: %p", (env, expected) => expect(isUnicode(env)).toBe(expected));

  test("bytes show rate and time left", () => {
    const MIB = 1024 ** 2;
    expect(formatProgress({ stage: "x", message: "pulling", done: 10 * MIB, total: 40 * MIB }, 2000)).toBe(
      "pulling 10 MiB of 40 MiB, 5 MiB/s, 6.0s left",
    );
    expect(formatProgress({ stage: "x", message: "pulling", done: 10 * MIB, total: 40 * MIB }, null)).toBe(
      "pulling 10 MiB of 40 MiB",
    );
  });
});

test("a reader that went away ends the command quietly; one of stderr ends nothing", () => {
  const closed = {
    isTerminal: false,
    write: () => {
      throw new OutputClosed();
    },
  };
  const stdout = new TextSink();
  const out = new Output({ stdout, stderr: closed, env: {} });
  out.note("nobody reads this");
  out.line("answer");
  expect(stdout.text).toBe("answer\n");
  expect(() => new Output({ stdout: closed, stderr: stdout, env: {} }).line("x")).toThrow(OutputClosed);
});
