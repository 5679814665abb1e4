import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { oncePerPort, parseListeners } from "../../../../src/daemon/guest/ports.ts";

const OUTPUT = `LISTEN 0      128          0.0.0.0:22        0.0.0.0:*    users:(("sshd",pid=310,fd=6))
LISTEN 0      128             [::]:22           [::]:*    users:(("sshd",pid=310,fd=7))
LISTEN 0      511                *:3000            *:*    users:(("node",pid=900,fd=20),("node",pid=901,fd=20))
LISTEN 0      4096   127.0.0.1%lo:53        0.0.0.0:*
LISTEN 0      5         127.0.0.1:8123      0.0.0.0:*    users:(("perl",pid=77,fd=3))
`;

test("a port that a hostile agent names a thousand times is one port", () => {
  const many = Array.from({ length: 1000 }, (_, i) => ({ port: 80, process: i === 7 ? "nginx" : null }));
  expect(oncePerPort([...many, { port: 22, process: "sshd" }])).toEqual([
    { port: 22, process: "sshd" },
    { port: 80, process: "nginx" },
  ]);
});

describe("parseListeners", () => {
  test("each port once, by number, with the process that holds it", () => {
    expect(parseListeners(OUTPUT)).toEqual([
      { port: 22, process: "sshd" },
      { port: 53, process: null },
      { port: 3000, process: "node" },
      { port: 8123, process: "perl" },
    ]);
  });

  test("a later line may name the process an earlier one didn't, not take its name away", () => {
    const named = 'LISTEN 0 1 0.0.0.0:80 0.0.0.0:* users:(("nginx",pid=1,fd=1))';
    const unnamed = "LISTEN 0 1 [::]:80 [::]:*";
    expect(parseListeners(`${unnamed}\n${named}`)).toEqual([{ port: 80, process: "nginx" }]);
    expect(parseListeners(`${named}\n${unnamed}`)).toEqual([{ port: 80, process: "nginx" }]);
  });

  test.each([
    "LISTEN 0 1 0.0.0.0:0 x",
    "LISTEN 0 1 0.0.0.0:65536 x",
    "LISTEN 0 1 0.0.0.0:-1 x",
    "LISTEN 0 1 0.0.0.0:1e3 x",
    "ESTAB 0 1 0.0.0.0:80 x",
    "LISTEN",
    "",
  ])("%p is no listener", (line) => {
    expect(parseListeners(line)).toEqual([]);
  });

  test("a process name that isn't plain text is left out", () => {
    expect(parseListeners('LISTEN 0 1 0.0.0.0:80 0.0.0.0:* users:(("\u001b[2Jevil",pid=1,fd=1))')).toEqual([
      { port: 80, process: null },
    ]);
  });

  test("whatever the guest says: ports in range, sorted, unique, bounded, names printable", () => {
    const line = fc.oneof(
      fc.string(),
      fc
        .tuple(fc.integer({ min: -10, max: 70_000 }), fc.string({ unit: "binary" }))
        .map(([port, name]) => `LISTEN 0 1 [::]:${port} [::]:* users:(("${name}",pid=1,fd=1))`),
    );
    fc.assert(
      fc.property(fc.array(line, { maxLength: 300 }), (lines) => {
        const listeners = parseListeners(lines.join("\n"));
        const ports = listeners.map(({ port }) => port);
        expect(ports).toEqual([...new Set(ports)].toSorted((a, b) => a - b));
        for (const { port, process } of listeners) {
          expect(port >= 1 && port <= 65535).toBe(true);
          if (process !== null) expect(process).toMatch(/^[\x21-\x7e]{1,64}$/);
        }
      }),
    );
    const many = Array.from({ length: 5000 }, (_, index) => `LISTEN 0 1 [::]:${index + 1} x`).join("\n");
    expect(parseListeners(many).length).toBe(1000);
  });
});
