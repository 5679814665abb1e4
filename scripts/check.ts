/**
 * `bun run check`: format, lint, types, and every test that needs no root, no KVM and no network. All parts run,
 * whatever the others say; the last line says which failed.
 */

export interface Part {
  readonly name: string;
  readonly argv: readonly string[];
}

const SOURCES = ["src", "test", "scripts"];

const PARTS: readonly Part[] = [
  { name: "format", argv: ["bun", "fmt", "--check", ...SOURCES] },
  { name: "lint", argv: ["bun", "x", "oxlint", "--quiet", ...SOURCES] },
  { name: "types", argv: ["bun", "check", "--no-script"] },
  { name: "tests", argv: ["bun", "test", "test/unit", "test/property"] },
];

const failed: string[] = [];
for (const { name, argv } of PARTS) {
  const began = performance.now();
  const child = Bun.spawn([...argv], {
    stdin: "ignore",
    stdout: "pipe",
    stderr: "pipe",
    env: { ...process.env, NO_COLOR: "1" },
  });
  const [stdout, stderr, status] = await Promise.all([
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
    child.exited,
  ]);
  const seconds = ((performance.now() - began) / 1000).toFixed(1);
  console.log(`${status === 0 ? "ok  " : "FAIL"} ${name} (${seconds} s)`);
  if (status === 0) continue;
  failed.push(name);
  const said = `${stdout}${stderr}`;
  // A test run's own list of passes hides what failed.
  console.log(
    name === "tests"
      ? said
          .split("\n")
          .filter((line) => !line.startsWith("(pass)"))
          .join("\n")
      : said,
  );
}
console.log(failed.length === 0 ? "check: all parts passed" : `check: failed: ${failed.join(", ")}`);
process.exitCode = failed.length === 0 ? 0 : 1;
