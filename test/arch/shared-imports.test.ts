/** Loading a shared module does nothing: no file, process or socket. Every role loads them, the root helper first of all. */

import { afterAll, expect, test } from "bun:test";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";

const ROOT = resolve(import.meta.dir, "../..");
const dir = await mkdtemp(join(tmpdir(), "banger-imports-"));
afterAll(async () => {
  await rm(dir, { recursive: true, force: true });
});

/** Modules whose functions reach out of the process; each is replaced by one whose functions only throw. */
const DOORS = ["node:fs", "node:fs/promises", "node:net", "node:http", "node:child_process", "node:dns", "node:os"];
const OTHER_DOORS = /^(?:bun|bun:.*|node:(?:worker_threads|tls|https|dgram|tty|readline))$/;

const guard = join(dir, "guard.mjs");
await writeFile(
  guard,
  `
const door = (name) => () => { throw new Error("I/O on import: " + name); };
for (const name of ["spawn", "spawnSync", "file", "write", "listen", "connect", "serve", "which"])
  Object.defineProperty(Bun, name, { value: door("Bun." + name) });
for (const name of ["on", "once", "exit", "chdir", "umask", "kill"]) process[name] = door("process." + name);
for (const name of ["stdin", "stdout", "stderr"]) Object.defineProperty(process, name, { get: door("process." + name) });
for (const name of ["fetch", "setTimeout", "setInterval"]) globalThis[name] = door(name);
await import(process.argv[2]);
`,
);

/** Source of a stand-in for a built-in module. */
async function closeDoor(name: string): Promise<string> {
  const real = (await import(name)) as Record<string, unknown>;
  const lines = Object.keys(real)
    .filter((key) => key !== "default" && /^[A-Za-z_]\w*$/.test(key))
    .map((key) =>
      typeof real[key] === "function" && /^[a-z]/.test(key)
        ? `export const ${key} = () => { throw new Error("I/O on import: ${name} ${key}"); };`
        : `export const ${key} = ${JSON.stringify(real[key]) ?? "undefined"};`,
    );
  return lines.join("\n");
}

/** What a program says that does nothing but load the module; nothing when that is all it does. */
async function load(path: string): Promise<string> {
  const built = await Bun.build({
    entrypoints: [path],
    target: "bun",
    throw: false,
    plugins: [
      {
        name: "doors",
        setup: (builder) => {
          // The bundler asks no plugin about built-in modules, so they get another name first.
          builder.onLoad({ filter: /\.ts$/ }, async ({ path: file }) => ({
            contents: (await Bun.file(file).text()).replace(
              /(\bfrom |\bimport )"((?:node|bun)(?::[^"]+)?)"/g,
              '$1"door:$2"',
            ),
            loader: "ts",
          }));
          builder.onResolve({ filter: /^door:/ }, ({ path: renamed }) => {
            const name = renamed.slice("door:".length);
            if (OTHER_DOORS.test(name)) throw new Error(`I/O on import: ${name}`);
            return DOORS.includes(name) ? { path: name, namespace: "door" } : { path: name, external: true };
          });
          builder.onLoad({ filter: /.*/, namespace: "door" }, async ({ path: name }) => ({
            contents: await closeDoor(name),
            loader: "js",
          }));
        },
      },
    ],
  });
  const [output] = built.outputs;
  if (!built.success || output === undefined) return built.logs.join("\n");
  const bundle = join(dir, `bundle-${Bun.hash(path)}.mjs`);
  await writeFile(bundle, await output.text());
  const child = Bun.spawn([process.execPath, guard, bundle], { stdin: "ignore", stdout: "pipe", stderr: "pipe" });
  const [stdout, stderr, status] = await Promise.all([
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
    child.exited,
  ]);
  return `${stdout}${stderr}${status === 0 ? "" : ` ended with ${status}`}`;
}

test("no shared module does anything when it is loaded", async () => {
  const paths = (await Array.fromAsync(new Bun.Glob("src/shared/**/*.ts").scan({ cwd: ROOT }))).sort();
  expect(paths.length).toBeGreaterThan(10);
  for (const path of paths) expect({ path, said: await load(join(ROOT, path)) }).toEqual({ path, said: "" });
});

test.each([
  ["reads a file", 'import { readFileSync } from "node:fs"; readFileSync("/etc/hostname");'],
  ["reads a file later", 'import { readFile } from "node:fs/promises"; await readFile("/etc/hostname");'],
  ["makes a Bun file", 'Bun.file("/etc/hostname");'],
  ["starts a process", 'Bun.spawnSync(["true"]);'],
  ["connects", 'import { connect } from "node:net"; connect("/tmp/nothing.sock");'],
  ["fetches", 'await fetch("http://127.0.0.1:1/");'],
  ["listens to signals", 'process.on("SIGTERM", () => {});'],
  ["reads the home directory", 'import { homedir } from "node:os"; homedir();'],
  ["opens a database", 'import { Database } from "bun:sqlite"; new Database();'],
  ["prints", 'process.stdout.write("hello");'],
])("a module that %s is caught", async (what, text) => {
  const path = join(dir, `${what.replaceAll(" ", "-")}.ts`);
  await writeFile(path, text);
  expect(await load(path)).toContain("I/O on import");
});
