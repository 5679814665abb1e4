/** install.sh, in throw-away homes: from a checkout, from a release of our own making, and with everything that can be wrong with one. */

import { afterAll, beforeAll, expect, test } from "bun:test";
import { cp, mkdir, mkdtemp, readdir, readFile, rm, stat, symlink, writeFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import { VERSION } from "../../src/shared/version.ts";

const ROOT = resolve(import.meta.dir, "../..");
const ARCH = process.arch === "arm64" ? "aarch64" : "x86_64";
const RELEASE = "9.8.7";
const BINARY = `banger-${RELEASE}-linux-${ARCH}.zst`;
const PATH = process.env["PATH"] ?? "/usr/bin:/bin";

let dir: string;
/** Files of the release host, by path. */
let files: Map<string, Uint8Array | string>;
let host: ReturnType<typeof Bun.serve>;
/** The same files without TLS; what was asked of it. */
let plainHost: ReturnType<typeof Bun.serve>;
const askedPlainly: string[] = [];
/** Paths that lead to the host without TLS. */
const redirected = new Set<string>();
/** install.sh with our host and key in it, as the release's tooling writes them. */
let script: string;
/** One whose host has no TLS. */
let plainScript: string;

async function run(
  argv: readonly string[],
  options: { readonly home: string; readonly stdin?: string; readonly path?: string; readonly cwd?: string },
): Promise<{ readonly status: number; readonly stdout: string; readonly stderr: string }> {
  const child = Bun.spawn([...argv], {
    cwd: options.cwd ?? options.home,
    env: {
      ...{ HOME: options.home, PATH: options.path ?? PATH, LANG: "C.UTF-8", TMPDIR: join(options.home, "tmp") },
      CURL_CA_BUNDLE: join(dir, "tls.pem"),
    },
    stdin: options.stdin === undefined ? "ignore" : new TextEncoder().encode(options.stdin),
    stdout: "pipe",
    stderr: "pipe",
    timeout: 240_000,
    killSignal: "SIGKILL",
  });
  const [stdout, stderr, status] = await Promise.all([
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
    child.exited,
  ]);
  return { status, stdout, stderr };
}

async function tool(...argv: readonly string[]): Promise<void> {
  const child = Bun.spawn([...argv], { cwd: dir, stdin: "ignore", stdout: "ignore", stderr: "pipe" });
  const stderr = await new Response(child.stderr).text();
  if ((await child.exited) !== 0) throw new Error(`${argv.join(" ")}: ${stderr}`);
}

async function makeHome(): Promise<string> {
  const home = await mkdtemp(join(dir, "home-"));
  await mkdir(join(home, "tmp"));
  return home;
}

/** Every file below a home. */
async function listHome(home: string): Promise<readonly string[]> {
  const entries = await readdir(home, { recursive: true, withFileTypes: true });
  return entries
    .filter((entry) => !entry.isDirectory())
    .map((entry) => join(entry.parentPath, entry.name).slice(home.length + 1))
    .sort();
}

const digest = (bytes: Uint8Array): string => new Bun.CryptoHasher("sha256").update(bytes).digest("hex");

/** Signs SHA256SUMS as `cosign sign-blob` does with a key: base64 of an ASN.1 ECDSA signature. */
async function sign(sums: string, key: string): Promise<string> {
  await writeFile(join(dir, "sums"), sums);
  await tool("openssl", "dgst", "-sha256", "-sign", key, "-out", "signature", "sums");
  return Buffer.from(await readFile(join(dir, "signature"))).toString("base64");
}

/** A release whose executable says it is `version`. */
async function makeRelease(version = RELEASE): Promise<void> {
  redirected.clear();
  const text = `#!/bin/sh\nif [ "$1" = version ]; then echo "banger ${version}"; else echo "ran: $*"; fi\n`;
  const binary = Bun.zstdCompressSync(Buffer.from(text));
  const sums = `${"0".repeat(64)}  banger-${RELEASE}-linux-other.zst\n${digest(binary)}  ${BINARY}\n`;
  files = new Map<string, Uint8Array | string>([
    ["/manifest.json", JSON.stringify({ schema_version: 1, latest_stable: RELEASE, releases: [] }, null, 2)],
    [`/${RELEASE}/SHA256SUMS`, sums],
    [`/${RELEASE}/SHA256SUMS.sig`, await sign(sums, "key.pem")],
    [`/${RELEASE}/${BINARY}`, binary],
  ]);
}

beforeAll(async () => {
  await mkdir(join(ROOT, "test/.cache"), { recursive: true });
  // Beside the checkout, so that its copy can share files with it.
  dir = await mkdtemp(join(ROOT, "test/.cache/install-"));
  for (const key of ["key.pem", "other.pem"])
    await tool("openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", key);
  await tool("openssl", "ec", "-in", "key.pem", "-pubout", "-out", "public.pem");
  await tool(
    ...["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"],
    ...["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", "tls.key", "-out", "tls.pem"],
  );
  const serve = (pathname: string): Response => {
    const body = files.get(pathname);
    return body === undefined ? new Response("no", { status: 404 }) : new Response(body);
  };
  plainHost = Bun.serve({
    hostname: "127.0.0.1",
    port: 0,
    fetch: (request) => {
      const { pathname } = new URL(request.url);
      askedPlainly.push(pathname);
      return serve(pathname);
    },
  });
  host = Bun.serve({
    hostname: "127.0.0.1",
    port: 0,
    tls: { key: Bun.file(join(dir, "tls.key")), cert: Bun.file(join(dir, "tls.pem")) },
    fetch: (request) => {
      const { pathname } = new URL(request.url);
      if (redirected.has(pathname)) return Response.redirect(`http://127.0.0.1:${plainHost.port}${pathname}`, 302);
      return serve(pathname);
    },
  });
  const text = (await readFile(join(ROOT, "install.sh"), "utf8")).replace(
    "RELEASE_KEY=''",
    `RELEASE_KEY='${(await readFile(join(dir, "public.pem"), "utf8")).trim()}'`,
  );
  script = join(dir, "install.sh");
  await writeFile(script, text.replace("RELEASE_HOST=''", `RELEASE_HOST='https://127.0.0.1:${host.port}'`));
  plainScript = join(dir, "plain.sh");
  await writeFile(plainScript, text.replace("RELEASE_HOST=''", `RELEASE_HOST='http://127.0.0.1:${plainHost.port}'`));
}, 60_000);

afterAll(async () => {
  await Promise.all([host.stop(true), plainHost.stop(true)]);
  await rm(dir, { recursive: true, force: true });
});

test("a verified release is installed, over whatever was there, and nothing else is left", async () => {
  await makeRelease();
  const home = await makeHome();
  for (const round of ["first", "again"]) {
    const { status, stderr } = await run(["sh", script, "--user", "--yes"], { home });
    expect({ round, status, stderr: status === 0 ? "" : stderr }).toEqual({ round, status: 0, stderr: "" });
    expect(stderr).toContain(join(home, ".local/bin/banger"));
    expect(await listHome(home)).toEqual([".local/bin/banger"]);
  }
  const installed = join(home, ".local/bin/banger");
  expect((await stat(installed)).mode & 0o777).toBe(0o755);
  expect((await run([installed, "version"], { home })).stdout).toBe(`banger ${RELEASE}\n`);
}, 60_000);

test("it works through a pipe, and with a named version without the manifest", async () => {
  await makeRelease();
  files.delete("/manifest.json");
  const home = await makeHome();
  const { status } = await run(["sh", "-s", "--", "--user", "--yes", "--version", RELEASE], {
    home,
    stdin: await readFile(script, "utf8"),
  });
  expect(status).toBe(0);
  expect(await listHome(home)).toEqual([".local/bin/banger"]);
}, 60_000);

test("a link in the place of the old one is replaced, not followed", async () => {
  await makeRelease();
  const home = await makeHome();
  await mkdir(join(home, ".local/bin"), { recursive: true });
  await writeFile(join(home, "precious"), "mine");
  await symlink(join(home, "precious"), join(home, ".local/bin/banger"));
  expect((await run(["sh", script, "--user", "--yes"], { home })).status).toBe(0);
  expect(await readFile(join(home, "precious"), "utf8")).toBe("mine");
  expect((await run([join(home, ".local/bin/banger"), "version"], { home })).stdout).toBe(`banger ${RELEASE}\n`);
}, 60_000);

const BROKEN: readonly (readonly [what: string, status: number, says: string, breakIt: () => Promise<void> | void])[] =
  [
    [
      "whose executable has another digest",
      41,
      "digest",
      () => void files.set(`/${RELEASE}/${BINARY}`, Bun.zstdCompressSync(Buffer.from("#!/bin/sh\necho evil\n"))),
    ],
    [
      "with one byte more",
      41,
      "digest",
      () =>
        void files.set(
          `/${RELEASE}/${BINARY}`,
          Buffer.concat([files.get(`/${RELEASE}/${BINARY}`) as Uint8Array, Buffer.of(0)]),
        ),
    ],
    [
      "whose sums were changed after signing",
      41,
      "signature",
      () => void files.set(`/${RELEASE}/SHA256SUMS`, `${String(files.get(`/${RELEASE}/SHA256SUMS`))}\n`),
    ],
    [
      "signed by another key",
      41,
      "signature",
      async () =>
        void files.set(
          `/${RELEASE}/SHA256SUMS.sig`,
          await sign(String(files.get(`/${RELEASE}/SHA256SUMS`)), "other.pem"),
        ),
    ],
    ["with an empty signature", 41, "signature", () => void files.set(`/${RELEASE}/SHA256SUMS.sig`, "")],
    ["with a signature that is none", 41, "signature", () => void files.set(`/${RELEASE}/SHA256SUMS.sig`, "!!!")],
    [
      "with an endless signature",
      40,
      "SHA256SUMS.sig",
      () => void files.set(`/${RELEASE}/SHA256SUMS.sig`, "A".repeat(4096)),
    ],
    ["without a signature", 40, "SHA256SUMS.sig", () => void files.delete(`/${RELEASE}/SHA256SUMS.sig`)],
    ["without an executable", 40, BINARY, () => void files.delete(`/${RELEASE}/${BINARY}`)],
    ["without a manifest", 40, "manifest.json", () => void files.delete("/manifest.json")],
    [
      "whose manifest names a path for a version",
      41,
      "version",
      () => void files.set("/manifest.json", '{"latest_stable": "../../1.2.3"}'),
    ],
    ...(
      [
        ["a line more for a version", '{"latest_stable": "9.8.7\n9.8.7"}'],
        ["a line that is a version, beside others", '{"latest_stable": "x;id\n9.8.7\n../x"}'],
        ["a command for a version", '{"latest_stable": "$(id)"}'],
        ["a pattern for a version", '{"latest_stable": "9.8.*"}'],
        ["an option for a version", '{"latest_stable": "-o9.8.7"}'],
        ["no text for a version", '{"latest_stable": 9.8}'],
      ] as const
    ).map(
      ([what, manifest]) =>
        [
          `whose manifest has ${what}`,
          41,
          "names no version",
          () => void files.set("/manifest.json", manifest),
        ] as const,
    ),
    ...(["manifest.json", `${RELEASE}/SHA256SUMS`, `${RELEASE}/${BINARY}`] as const).map(
      (path) => [`whose ${path} leads away from https`, 40, path, () => void redirected.add(`/${path}`)] as const,
    ),
    [
      "whose signed sums name it twice",
      41,
      "exactly once",
      async () => {
        const sums = `${String(files.get(`/${RELEASE}/SHA256SUMS`))}${"1".repeat(64)}  ${BINARY}\n`;
        files.set(`/${RELEASE}/SHA256SUMS`, sums);
        files.set(`/${RELEASE}/SHA256SUMS.sig`, await sign(sums, "key.pem"));
      },
    ],
    [
      "whose signed sums are another release's",
      41,
      "exactly once",
      async () => {
        const sums = String(files.get(`/${RELEASE}/SHA256SUMS`)).replaceAll(RELEASE, "9.8.6");
        files.set(`/${RELEASE}/SHA256SUMS`, sums);
        files.set(`/${RELEASE}/SHA256SUMS.sig`, await sign(sums, "key.pem"));
      },
    ],
  ];

test.each(BROKEN)(
  "a release %s is refused, and nothing is left",
  async (_what, expected, says, breakIt) => {
    await makeRelease();
    await breakIt();
    const home = await makeHome();
    const { status, stderr } = await run(["sh", script, "--user", "--yes"], { home });
    expect({ status, stderr }).toEqual({
      status: expected,
      stderr: expect.stringContaining(says) as unknown as string,
    });
    expect(await listHome(home)).toEqual([]);
  },
  60_000,
);

test("nothing is asked of a host without TLS, be it the script's or one that was redirected to", async () => {
  await makeRelease();
  const home = await makeHome();
  for (const words of [[], ["--version", RELEASE]]) {
    const { status, stderr } = await run(["sh", plainScript, "--user", "--yes", ...words], { home });
    expect({ status, stderr }).toEqual({
      status: 41,
      stderr: expect.stringContaining("not an https address") as unknown as string,
    });
  }
  expect(await listHome(home)).toEqual([]);
  expect(askedPlainly).toEqual([]);
}, 60_000);

/** A banger in its place that says it is that version. */
async function installedHome(says: string): Promise<string> {
  const home = await makeHome();
  await mkdir(join(home, ".local/bin"), { recursive: true });
  await writeFile(join(home, ".local/bin/banger"), `#!/bin/sh\necho "${says}"\n`, { mode: 0o755 });
  return home;
}

test.each(["9.8.8", "9.9.0", "10.0.0", "9.8.8-rc.1", "9.10.0"])(
  "a manifest whose newest is older than the installed %s installs nothing, unless that release is asked for",
  async (installed) => {
    await makeRelease();
    const home = await installedHome(`banger ${installed}`);
    const { status, stderr } = await run(["sh", script, "--user", "--yes"], { home });
    expect(status).toBe(41);
    expect(stderr).toContain(`older than the installed banger ${installed};`);
    expect(stderr).toContain(`--version ${RELEASE}`);
    const says = async (): Promise<string> =>
      (await run([join(home, ".local/bin/banger"), "version"], { home })).stdout;
    expect(await says()).toBe(`banger ${installed}\n`);
    expect((await run(["sh", script, "--user", "--yes", "--version", RELEASE], { home })).status).toBe(0);
    expect(await says()).toBe(`banger ${RELEASE}\n`);
  },
  60_000,
);

test.each(["banger 9.8.6", "banger 9.8.7", "banger 9.8.7-rc.1", "banger 0.10.0", "nonsense", "banger $(id)"])(
  "an installed one that says %j is replaced",
  async (says) => {
    await makeRelease();
    const home = await installedHome(says.replace("$", "\\$"));
    const { status, stderr } = await run(["sh", script, "--user", "--yes"], { home });
    expect({ status, stderr: status === 0 ? "" : stderr }).toEqual({ status: 0, stderr: "" });
  },
  60_000,
);

test("a release that says it is another version is refused before it is installed", async () => {
  await makeRelease("9.8.6");
  const home = await makeHome();
  const { status, stderr } = await run(["sh", script, "--user", "--yes"], { home });
  expect(status).toBe(41);
  expect(stderr).toContain("9.8.6");
  expect(await listHome(home)).toEqual([]);
}, 60_000);

test.each(["openssl", "sha256sum", "zstd"])(
  "without %s nothing is installed unverified",
  async (missing) => {
    await makeRelease();
    const home = await makeHome();
    const bin = join(dir, `without-${missing}`);
    await mkdir(bin, { recursive: true });
    const needed = [
      "awk",
      "base64",
      "cat",
      "chmod",
      "cp",
      "curl",
      "cut",
      "env",
      "grep",
      "head",
      "id",
      "mkdir",
      "mktemp",
    ];
    for (const name of [...needed, "mv", "openssl", "rm", "sed", "sh", "sha256sum", "tr", "uname", "wc", "zstd"]) {
      const path = Bun.which(name);
      if (name !== missing && path !== null) await symlink(path, join(bin, name)).catch(() => undefined);
    }
    const { status, stderr } = await run(["sh", script, "--user", "--yes"], { home, path: bin });
    expect(status).toBe(30);
    expect(stderr).toContain(`${missing} is missing`);
    expect(await listHome(home)).toEqual([]);
  },
  60_000,
);

test("a script that came only in part does nothing", async () => {
  await makeRelease();
  const home = await makeHome();
  const text = await readFile(script, "utf8");
  const lengths = Array.from({ length: 40 }, (_, part) => Math.floor((text.length * part) / 40));
  for (const length of [...lengths, text.length - 2 - "main".length])
    await run(["sh", "-s", "--", "--user", "--yes"], { home, stdin: text.slice(0, length) });
  expect(await listHome(home)).toEqual([]);
}, 60_000);

test("the script of a checkout knows no release, and says what to do", async () => {
  const home = await makeHome();
  const { status, stderr } = await run(["sh", join(ROOT, "install.sh"), "--user", "--yes"], { home });
  expect(status).toBe(41);
  expect(stderr).toContain("no release host");
  expect(stderr).toContain("--from-source");
  expect(await listHome(home)).toEqual([]);
});

test.each([
  [["--unknown"], "unknown argument --unknown"],
  [["--version"], "--version takes"],
  [["--version", "../1.2.3"], "--version takes"],
  [["--version", "1.2.3 4.5.6"], "--version takes"],
  [["--version", "1.2.3\n../../x"], "--version takes"],
  [["--version", "x\n1.2.3"], "--version takes"],
  [["--version", "1.2.3\n"], "--version takes"],
  [["--version", "1.2.3;id"], "--version takes"],
  [["--version=$(id)"], "--version takes"],
  [["--from-source", "--version", "1.2.3"], "--version can't be combined with --from-source"],
])("%j is wrong usage", async (args, says) => {
  const home = await makeHome();
  const { status, stderr } = await run(["sh", script, ...args], { home });
  expect({ status, stderr }).toEqual({ status: 2, stderr: expect.stringContaining(says) as unknown as string });
});

test("without a terminal and without --yes nothing is installed", async () => {
  await makeRelease();
  const home = await makeHome();
  // A session of its own has no controlling terminal.
  const { status, stderr } = await run(["setsid", "--wait", "sh", script, "--user"], { home });
  expect(status).toBe(2);
  expect(stderr).toContain("--yes");
  expect(await listHome(home)).toEqual([]);
}, 60_000);

test("--from-source elsewhere than in a checkout says so", async () => {
  const home = await makeHome();
  const { status, stderr } = await run(["sh", "-s", "--", "--from-source", "--user", "--yes"], {
    home,
    stdin: await readFile(join(ROOT, "install.sh"), "utf8"),
  });
  expect(status).toBe(2);
  expect(stderr).toContain("checkout");
});

test("--from-source builds the checkout and installs what it built", async () => {
  const checkout = join(dir, "checkout");
  await mkdir(checkout);
  const parts = ["src", "scripts", "install.sh", "package.json", "package-lock.json", "tsconfig.json", "bunfig.toml"];
  for (const part of parts) await cp(join(ROOT, part), join(checkout, part), { recursive: true });
  await tool("cp", "-al", join(ROOT, "node_modules"), join(checkout, "node_modules"));
  // What `npm ci` by prepare.sh leaves, so that this test doesn't download everything again.
  const sum = Bun.spawn(["cksum"], { stdin: Bun.file(join(ROOT, "package-lock.json")), stdout: "pipe" });
  await rm(join(checkout, "node_modules/.package-lock.sum"), { force: true });
  await writeFile(join(checkout, "node_modules/.package-lock.sum"), await new Response(sum.stdout).text());

  const home = await makeHome();
  const { status, stderr } = await run(["sh", join(checkout, "install.sh"), "--from-source", "--user", "--yes"], {
    home,
  });
  expect({ status, stderr: status === 0 ? "" : stderr }).toEqual({ status: 0, stderr: "" });
  // Bun keeps what it has translated.
  expect((await listHome(home)).filter((path) => !path.startsWith(".bun/"))).toEqual([".local/bin/banger"]);
  const installed = await run([join(home, ".local/bin/banger"), "version"], { home });
  expect(installed.stdout).toContain(VERSION);
}, 240_000);
