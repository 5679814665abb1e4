/** What a guest chose, on its way to a terminal: every command that prints some of it. */

import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { BangerError } from "../../../../src/shared/errors.ts";
import { printable, printableJson, TerminalFilter } from "../../../../src/cmd/terminal/printable.ts";
import type { Watch } from "../../../../src/cmd/daemon/client.ts";
import { type CliResult, runInProcess } from "../../../support/cli.ts";
import { makeVm } from "../../../support/vm-record.ts";

const HOSTILE: readonly (readonly [name: string, text: string])[] = [
  ["OSC 52 sets the clipboard", "\u001b]52;c;cm0gLXJmIC8K\u0007"],
  ["OSC 0 sets the title", "\u001b]0;owned\u001b\\"],
  ["CSI clears the screen", "\u001b[2J\u001b[H"],
  ["CSI asks for the cursor, which types an answer", "\u001b[6n"],
  ["DECRQSS and DCS", "\u001bP$q\u001b\\"],
  ["CSI as one C1 character", "\u009b2J\u009d52;c;eA==\u009c"],
  ["a carriage return writes over the line", "error\rfine "],
  ["backspaces", "evil\b\b\b\bgood"],
  ["a right-to-left override", "user\u202etxt.exe"],
  ["isolates", "\u2066\u2067x\u2069"],
  ["an invisible name", "bo\u200bx\u2060\ufeff\u00ad"],
  ["tags", "box\u{e0041}\u{e0042}"],
  ["line and paragraph separators", "a\u2028b\u2029c"],
  ["a shift into another character set", "\u000e\u000f\u001b(0"],
  ["hidden text", "\u001b[8mhidden\u001b[0m"],
  ["a NUL and a bell", "\0\u0007"],
];

/** What a terminal may get: text, line feeds, tabs, and banger's own colours around banger's own words. */
const OWN = /\u001b\[(?:31|32|33|2|1)m(?:error:|warning:|PASS|WARN|FAIL|[A-Z][A-Z %]+)\u001b\[0m|\u001b\[H\u001b\[2J/g;
const NOT_FOR_TERMINALS = /(?![\t\n\u200c\u200d])[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Cs}]/u;

function expectHarmless({ stdout, stderr }: CliResult): void {
  for (const text of [stdout, stderr]) expect(text.replace(OWN, "")).not.toMatch(NOT_FOR_TERMINALS);
  expect(stdout + stderr).not.toBe("");
}

const image = (text: string) => ({
  name: "img",
  distro: text,
  release: text,
  kernel: text,
  arch: "x86_64",
  bytes: 1,
  source: text,
  createdAt: "2026-01-01T00:00:00.000Z",
  hasInitrd: false,
  version: text,
});

/** Command lines with answers that hold the text wherever a guest, a file or another user may have put it. */
const COMMANDS: readonly (readonly [argv: string, answers: (text: string) => Record<string, unknown>])[] = [
  ["logs box", (text) => ({ "vm.logs": ({ data }: Watch = {}) => data?.(text, text) })],
  ["logs -f box", (text) => ({ "vm.logs": ({ data }: Watch = {}) => [...text].forEach((one) => data?.(one, one)) })],
  ["logs --json box", (text) => ({ "vm.logs": ({ data }: Watch = {}) => data?.(text, text) })],
  ["vm ports", (text) => ({ "vm.ports": [{ vm: "box", port: 80, process: text, forward: text, url: text }] })],
  ["vm ports --json", (text) => ({ "vm.ports": [{ vm: "box", port: 80, process: text, forward: null, url: null }] })],
  ["vm show box", (text) => ({ "vm.show": { ...makeVm({}), lastError: text, image: text } })],
  ["vm show --json box", (text) => ({ "vm.show": { ...makeVm({}), lastError: text } })],
  ["ps", (text) => ({ "vm.list": [{ ...makeVm({}), name: text, image: text, address: text }] })],
  ["ps --json", (text) => ({ "vm.list": [{ ...makeVm({}), name: text }] })],
  ["ps -q", (text) => ({ "vm.list": [{ ...makeVm({}), id: text }] })],
  [
    "vm stats",
    (text) => ({
      "vm.stats": [{ id: text, name: text, cpuPercent: 1, memoryBytes: 1, diskBytes: 1, rxBytes: null, txBytes: 1 }],
    }),
  ],
  [
    "doctor",
    (text) => ({
      "system.ping": { version: text, pid: 1, mode: "rootless" },
      "system.doctor": [{ check: text, level: "WARN", message: text, fix: text }],
    }),
  ],
  ["doctor", (text) => ({ "system.ping": new BangerError("DAEMON_UNREACHABLE", text, { hint: text }) })],
  ["image list", (text) => ({ "image.list": [image(text)] })],
  ["image show img", (text) => ({ "image.show": image(text) })],
  ["kernel list", (text) => ({ "kernel.list": [image(text)] })],
  ["kernel show mine", (text) => ({ "kernel.show": image(text) })],
  ["gc", (text) => ({ "system.gc": [{ kind: text, what: text }] })],
  ["daemon status", (text) => ({ "system.ping": { version: text, stateDir: text, pid: 1 } })],
  ["vm stop box", (text) => ({ "vm.stop": [{ ref: "box", vm: { ...makeVm({}), name: text }, error: null }] })],
  [
    "vm stop box other",
    (text) => ({
      "vm.stop": [
        { ref: "box", vm: null, error: { code: "FAILED", message: text, hint: text, op: text } },
        { ref: "other", vm: null, error: { code: "FAILED", message: text } },
      ],
    }),
  ],
  ["vm start box", (text) => ({ "vm.start": new BangerError("GUEST_NOT_READY", `console:\n${text}`, { hint: text }) })],
  ["vm start --json box", (text) => ({ "vm.start": new BangerError("GUEST_NOT_READY", text, { op: text }) })],
  ["vm set --vcpu 2 box", (text) => ({ "vm.set": { ...makeVm({}), name: text } })],
  [
    "vm forward -d box 80",
    (text) => ({
      "vm.show": { ...makeVm({}), name: text },
      "vm.forward": { vm: text, hostAddress: text, hostPort: 80, guestPort: 80 },
    }),
  ],
  [
    "vm create",
    (text) => ({
      "vm.resolveSpec": { ...makeVm({}), image: text, acceleration: "tcg", accelerationReason: text },
      "vm.create": { ...makeVm({}), name: text },
    }),
  ],
];

describe.each(HOSTILE)("%s", (_, text) => {
  test.each(COMMANDS)("banger %s", async (argv, answers) => {
    expectHarmless(await runInProcess(argv.split(" "), answers(`a${text}z`), {}, null, true));
  });

  test("completions, wherever they go: the shell shows them", async () => {
    for (const shell of ["bash", "zsh", "fish"]) {
      const answers = { "vm.list": [makeVm({ name: "good", image: text }), makeVm({ name: `bad${text}` })] };
      const { stdout } = await runInProcess(["internal", "complete", shell, "--", "exec", ""], answers);
      expect(stdout).not.toMatch(NOT_FOR_TERMINALS);
      expect(stdout.trim().split("\n").length).toBe(1);
    }
  });

  test("a pipe gets a log byte for byte", async () => {
    const answers = { "vm.logs": ({ data }: Watch = {}) => data?.(text, text) };
    expect((await runInProcess(["logs", "box"], answers)).stdout).toBe(text);
  });

  test("JSON means the same on a terminal", async () => {
    expect(JSON.parse(printableJson(JSON.stringify({ text })))).toEqual({ text });
  });
});

describe("bytes", () => {
  test("in pieces of any size they become the same text as at once", () => {
    const pieces = fc.array(fc.oneof(fc.uint8Array({ maxLength: 6 }), fc.string({ unit: "binary" }).map(utf8)));
    fc.assert(
      fc.property(pieces, (chunks) => {
        const filter = new TerminalFilter();
        const shown = chunks.map((chunk) => filter.feed(chunk)).join("") + filter.flush();
        const whole = new TerminalFilter();
        expect(shown).toBe(whole.feed(Buffer.concat(chunks)) + whole.flush());
        expect(shown).not.toMatch(NOT_FOR_TERMINALS);
      }),
    );
  });

  test("text of any language stays as it is, split anywhere", () => {
    const text = "Grüße, 箱子, سلام, 👩\u200d💻, e\u0301\n\ttab\n";
    const bytes = utf8(text);
    for (let at = 0; at <= bytes.length; at++) {
      const filter = new TerminalFilter();
      expect(filter.feed(bytes.subarray(0, at)) + filter.feed(bytes.subarray(at)) + filter.flush()).toBe(text);
    }
  });

  test("that are no UTF-8 are written out: a terminal takes 0x9b for ESC [", () => {
    const filter = new TerminalFilter();
    expect(filter.feed(Buffer.from([0x9b, 0x32, 0x4a, 0xff, 0xc3, 0x28, 0xc3]))).toBe("\\x9b2J\\xff\\xc3(");
    expect(filter.flush()).toBe("\\xc3");
  });

  test("a console's colours go and its line ends stay; a colour can't hide another sequence", () => {
    expect(printable("[\u001b[0;32m  OK  \u001b[0m] Started\r\n\r\r\n")).toBe("[  OK  ] Started\n\n");
    expect(printable("\u001b\u001b[0m[2J\u001b[\u001b[0m2J")).toBe("\\x1b[2J\\x1b[2J");
  });
});

function utf8(text: string): Uint8Array {
  return new TextEncoder().encode(text);
}
