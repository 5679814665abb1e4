/** The compiled binary as a command: statuses, pipes, hostile surroundings, shells. No guest is booted here. */

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { mkdir, mkdtemp, readdir, rm, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { ROOT } from "../../src/cmd/commands/index.ts";
import type { Group } from "../../src/cmd/line/command.ts";
import { BANGER, eventually, type Home, makeHome } from "../support/banger.ts";

let home: Home;
let bin: string;
beforeAll(async () => {
  home = await makeHome();
  bin = join(home.dir, "bin");
  await mkdir(bin);
  await symlink(BANGER, join(bin, "banger"));
});
afterAll(async () => await home[Symbol.asyncDispose]());

/** Runs a script of a shell with banger in PATH. */
async function shell(argv: readonly string[], env: Readonly<Record<string, string>> = {}) {
  const child = Bun.spawn([...argv], {
    cwd: home.dir,
    env: { ...home.env, PATH: `${bin}:${home.env["PATH"]}`, ...env },
    stdin: "ignore",
    stdout: "pipe",
    stderr: "pipe",
  });
  const [stdout, stderr] = await Promise.all([new Response(child.stdout).text(), new Response(child.stderr).text()]);
  return { status: await child.exited, stdout, stderr };
}

describe("without a daemon", () => {
  test.each([
    [["--version"], 0],
    [["version", "--json"], 0],
    [["--help"], 0],
    [["vm", "run", "--help"], 0],
    [["config"], 0],
    [["explain"], 0],
    [["completion", "bash"], 0],
    [["ssh-config"], 0],
    [["daemon", "status"], 0],
    [["daemon", "stop"], 0],
    [["internal", "complete", "bash", "--", "vm", "stop", ""], 0],
    [["daemon", "logs"], 1],
    [["image", "pull", "debian:trixie"], 1],
    [["vm", "bogus"], 2],
    [["vm", "run", "--bogus"], 2],
    [["constructor"], 2],
    [["vm", "run", "--memory", "lots"], 2],
    [["vm", "exec", "box"], 2],
  ])("%p ends with %d and starts none", async (args, status) => {
    const result = await home.run(args, { timeoutMs: 20_000 });
    expect(result.status).toBe(status);
    if (status !== 0) expect(result.stderr).toMatch(/^error: .* \[[A-Z_]+\]\ntry: banger /);
    expect(await home.processes()).toEqual([]);
    expect(existsSync(home.runtimeDir)).toBe(false);
  });

  test("status reports that in JSON", async () => {
    expect(await home.json<object>(["daemon", "status"])).toMatchObject({ running: false, pid: null });
  });

  test("completions of names are empty and silent", async () => {
    const result = await home.run(["internal", "complete", "bash", "--", "vm", "stop", ""]);
    expect(result).toMatchObject({ status: 0, stdout: "", stderr: "" });
  });
});

describe("argv[0]", () => {
  test("any name but the daemons' is the CLI", async () => {
    await symlink(BANGER, join(bin, "b"));
    expect(await shell([join(bin, "b"), "version"])).toMatchObject({
      status: 0,
      stdout: await home.ok(["version"]),
    });
  });

  test("bangerd is the owner daemon", async () => {
    await symlink(BANGER, join(bin, "bangerd"));
    const result = await shell([join(bin, "bangerd"), "--check-migrations"]);
    expect([0, 1]).toContain(result.status);
    expect(result.stdout + result.stderr).not.toContain("USAGE");
  });
});

describe("a hostile directory", () => {
  test("runs none of its files and takes no setting from them", async () => {
    const dir = join(home.dir, "hostile");
    const proof = join(home.dir, "proof");
    const evil = `require("node:fs").writeFileSync(${JSON.stringify(proof)}, process.argv.join(" "));`;
    for (const name of ["valibot", "citty", "ofetch", "consola"]) {
      await mkdir(join(dir, "node_modules", name), { recursive: true });
      await writeFile(join(dir, "node_modules", name, "index.js"), evil);
      await writeFile(join(dir, "node_modules", name, "package.json"), `{"name":"${name}","main":"index.js"}`);
    }
    await writeFile(join(dir, "preload.js"), evil);
    await writeFile(join(dir, "bunfig.toml"), 'preload = ["./preload.js"]\n[run]\npreload = ["./preload.js"]\n');
    await writeFile(join(dir, "package.json"), '{"name":"evil","imports":{"#x":"./preload.js"}}');
    await writeFile(join(dir, "tsconfig.json"), '{"compilerOptions":{"paths":{"*":["./preload.js"]}}}');
    const other = join(home.dir, "elsewhere");
    const dotenv = [`XDG_RUNTIME_DIR=${other}`, `XDG_STATE_HOME=${other}`, `XDG_CONFIG_HOME=${other}`, `HOME=${other}`];
    await writeFile(join(dir, ".env"), `${dotenv.join("\n")}\nNO_COLOR=1\n`);
    await writeFile(join(dir, ".env.local"), dotenv.join("\n"));
    for (const args of [["version"], ["--help"], ["config"], ["ps"], ["completion", "zsh"]])
      expect((await home.run(args, { cwd: dir })).status).toBe(0);
    const status = await home.json<{ socket: string; stateDir: string }>(["daemon", "status"], { cwd: dir });
    expect(status).toMatchObject({ socket: join(home.runtimeDir, "bangerd.sock"), stateDir: home.stateDir });
    await home.ok(["daemon", "stop"], { cwd: dir });
    expect(existsSync(proof)).toBe(false);
    expect(existsSync(other)).toBe(false);
  });
});

describe("pipes", () => {
  test("a reader that leaves early ends the command quietly", async () => {
    const script = 'banger explain | head -1; echo "${PIPESTATUS[0]}"';
    const result = await shell(["bash", "-c", script]);
    expect(result).toEqual({ status: 0, stdout: expect.stringMatching(/^CODE +EXIT  MEANING\n0\n$/), stderr: "" });
  });

  test("a reader that left before the first byte ends it too", async () => {
    const result = await shell(["bash", "-c", 'banger explain | true; echo "${PIPESTATUS[0]}"']);
    expect(result).toEqual({ status: 0, stdout: "0\n", stderr: "" });
  });

  test("a closed stdout or stderr ends it too", async () => {
    expect((await shell(["bash", "-c", "banger version >&-"])).stderr).toBe("");
    expect((await shell(["bash", "-c", "banger vm bogus 2>&-"])).status).toBe(2);
  });

  test("an answer that can't be written is a failure", async () => {
    const result = await shell(["bash", "-c", "banger version > /dev/full"]);
    expect(result.status).toBe(31);
    expect(result.stderr).toContain("[OUTPUT_FAILED]");
  });

  test("no colour and no cursor codes go into a pipe", async () => {
    for (const args of [["--help"], ["explain"], ["config"], ["vm", "bogus"]]) {
      const result = await home.run(args, { env: { TERM: "xterm-256color", FORCE_COLOR: "1" } });
      expect(result.stdout + result.stderr).not.toContain("\u001b");
    }
  });
});

describe("the daemon", () => {
  test("is started by the first command that needs it, in its own session, away from the caller's directory", async () => {
    expect(await home.json<unknown[]>(["ps"])).toEqual([]);
    const pid = (await home.daemonPid()) ?? 0;
    const stat = await Bun.file(`/proc/${pid}/stat`).text();
    const [, , , session] = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    expect(Number(session)).toBe(pid);
    expect(await Array.fromAsync(new Bun.Glob("*").scan({ cwd: `/proc/${pid}/cwd`, onlyFiles: false }))).toContain(
      "etc",
    );
    expect((await home.run(["daemon", "status"])).stdout).toContain("rootless");
  });

  test("is only one, even if several first commands start it at once, and each waits only for that start", async () => {
    await home.ok(["daemon", "stop"]);
    await Promise.all(Array.from({ length: 6 }, () => home.ok(["ps"], { timeoutMs: 4000 })));
    expect(await home.processes()).toHaveLength(1);
  });

  test("says why it can't start", async () => {
    await home.ok(["daemon", "stop"]);
    const config = join(home.dir, ".config/banger/config.toml");
    await mkdir(join(home.dir, ".config/banger"), { recursive: true });
    await writeFile(config, "default_imgae = 'x'\n");
    const result = await home.run(["ps"], { timeoutMs: 30_000 });
    expect(result.status).toBe(2);
    expect(result.stderr).toMatch(/there is no key default_imgae; did you mean default_image\? \[CONFIG_INVALID\]/);
    expect((await home.run(["config"])).status).toBe(2);
    expect(await home.processes()).toEqual([]);
    await rm(config);
    expect((await home.run(["ps"])).status).toBe(0);
  });

  test("follows its log until a signal, quietly", async () => {
    const child = home.spawn(["daemon", "logs", "-f", "-n", "1"]);
    const reader = child.stdout.getReader();
    expect(new TextDecoder().decode((await reader.read()).value)).toContain('"level"');
    child.kill("SIGINT");
    expect({ status: await child.exited, stderr: await new Response(child.stderr).text() }).toEqual({
      status: 130,
      stderr: "",
    });
  });

  test("answers commands when there is no VM", async () => {
    expect(await home.run(["vm", "prune"])).toMatchObject({ status: 0, stdout: "" });
    expect(await home.run(["vm", "show", "nobody"])).toMatchObject({ status: 20, stdout: "" });
    expect(JSON.parse((await home.run(["vm", "show", "nobody", "--json"])).stdout)).toMatchObject({
      error: { code: "VM_NOT_FOUND", op: expect.stringMatching(/^op-[0-9a-f]{12}$/) },
    });
    expect((await home.run(["vm", "exec", "nobody", "--", "true"])).status).toBe(125);
    expect((await home.run(["vm", "delete", "nobody", "neither"])).status).toBe(20);
    expect(await home.json<unknown[]>(["image", "list"])).toEqual([]);
    expect((await home.run(["kernel", "rm", "none"])).status).toBe(20);
    const rows = await home.run(["doctor", "--json"]);
    expect(JSON.parse(rows.stdout)).toContainEqual(expect.objectContaining({ check: "daemon", level: "PASS" }));
  });

  test("is gone once it is stopped", async () => {
    const pid = await home.daemonPid();
    expect(await home.json<object>(["daemon", "stop"])).toEqual({ pid, runningVms: 0 });
    expect(await home.processes()).toEqual([]);
    expect(await readdir(home.runtimeDir)).not.toContain("bangerd.sock");
  });

  test("is not started by a command that was interrupted while waiting for it", async () => {
    const child = home.spawn(["ps"]);
    child.kill("SIGTERM");
    expect([0, 143]).toContain(await child.exited);
    await home.run(["ps"]);
    await eventually("one daemon at most", 60_000, async () => (await home.processes()).length <= 1);
    await home.ok(["daemon", "stop"]);
  });
});

describe("completion in real shells", () => {
  /** Words that a shell would run if it evaluated what is typed. Each leaves `proof` behind. */
  const HOSTILE = ["$(touch proof)", "`touch proof`", "; touch proof;", "<(touch proof)", "a'$(touch proof)'"];
  /** Commands that such a word stands in: as a name, a path, a flag's value, and after `--`. */
  const PLACES = ["vm stop", "cp", "vm run --image", "exec box --"];
  const expectNoProof = (): void => expect(existsSync(join(home.dir, "proof"))).toBe(false);

  const installed = (name: string): boolean => Bun.which(name) !== null;
  /** Stands in the title, which is all that the list of skipped tests shows. */
  const whyNot = (name: string): string => (installed(name) ? "" : ` (skipped: ${name} is not installed)`);

  test("bash", async () => {
    const script = `
      source <(banger completion bash)
      offer() { COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=(); _banger 2>/dev/null; echo "\${COMPREPLY[*]}"; }
      complete -p banger
      offer banger vm sta; offer banger completion ''; offer banger vm run --ima; offer banger vm workspace prepare --mode = o`;
    const result = await shell(["bash", "--norc", "-c", script]);
    expect(result.stdout).toBe("complete -F _banger banger\nstart stats\nbash zsh fish\n--image\noverlay\n");
    expect(result.stderr).toBe("");
  });

  test("bash offers file names as they are", async () => {
    const dir = await mkdtemp(join(home.dir, "files-"));
    await writeFile(join(dir, "a file"), "");
    const script = `source <(banger completion bash); COMP_WORDS=(banger cp '${dir}/a'); COMP_CWORD=2; _banger 2>/dev/null; printf '%s\\n' "\${COMPREPLY[@]}"`;
    expect((await shell(["bash", "--norc", "-c", script])).stdout).toBe(`${dir}/a file\n`);
  });

  test("bash on a terminal completes a VM's name up to its colon, without a space", async () => {
    const lines = [
      "source <(banger completion bash)",
      // Stands in for a daemon with a VM named box.
      "banger() { [[ $1 == internal ]] && printf ':files\\nbox:\\n' || printf '[%s]' \"$@\"; }",
      "banger cp bo\t/etc there",
      "exit",
    ];
    const child = Bun.spawn(["script", "-qec", "bash --norc -i", "/dev/null"], {
      cwd: home.dir,
      env: { ...home.env, PATH: `${bin}:${home.env["PATH"]}`, TERM: "dumb" },
      stdin: new TextEncoder().encode(`${lines.join("\n")}\n`),
      stdout: "pipe",
      stderr: "pipe",
    });
    const said = await new Response(child.stdout).text();
    expect(await child.exited).toBe(0);
    expect(said).toContain("[cp][box:/etc][there]");
    expect(said).toContain("banger cp box:/etc there");
    expect(said).not.toContain("box\\:");
  });

  test("bash runs nothing that is typed", async () => {
    const script = `
      source <(banger completion bash)
      offer() { COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=(); _banger 2>/dev/null; }
      for place in "\${places[@]}"; do for word; do offer banger $place "$word"; offer banger $place "$word" b; done; done
      echo done`;
    const places = `places=(${PLACES.map((place) => `"${place}"`).join(" ")})`;
    const result = await shell(["bash", "--norc", "-c", `${places}; ${script}`, "bash", ...HOSTILE]);
    expect(result).toEqual({ status: 0, stdout: "done\n", stderr: "" });
    expectNoProof();
  });

  test.skipIf(!installed("zsh"))(`zsh${whyNot("zsh")}`, async () => {
    const script = `
      autoload -Uz compinit; compinit -u -d "$HOME/.zcompdump"
      source <(banger completion zsh)
      _describe() { print -rl -- "\${(P@)2}" }
      _files() { print files }
      offer() { words=("$@"); CURRENT=$#; _banger }
      print -r -- \${_comps[banger]}
      offer banger vm sta; offer banger completion f; offer banger kernel import x --from ''`;
    const summaryOf = (name: string): string => (ROOT.commands["vm"] as Group).commands[name]?.summary ?? "";
    const result = await shell(["zsh", "-f", "-c", script]);
    expect(result.stdout).toBe(
      ["_banger", `start:${summaryOf("start")}`, `stats:${summaryOf("stats")}`, "fish:", "files\n"].join("\n"),
    );
    expect(result.stderr).toBe("");
  });

  test.skipIf(!installed("zsh"))(`zsh runs nothing that is typed${whyNot("zsh")}`, async () => {
    const script = `
      autoload -Uz compinit; compinit -u -d "$HOME/.zcompdump"
      source <(banger completion zsh)
      _describe() { } ; _files() { }
      offer() { words=("$@"); CURRENT=$#; _banger }
      for place in $places; do for word; do offer banger \${=place} "$word"; offer banger \${=place} "$word" b; done; done
      echo done`;
    const places = `places=(${PLACES.map((place) => `"${place}"`).join(" ")})`;
    const result = await shell(["zsh", "-f", "-c", `${places}; ${script}`, "zsh", ...HOSTILE]);
    expect(result).toEqual({ status: 0, stdout: "done\n", stderr: "" });
    expectNoProof();
  });

  test.skipIf(!installed("fish"))(`fish runs nothing that is typed${whyNot("fish")}`, async () => {
    const script = `
      source (banger completion fish | psub)
      for place in $places; for word in $argv; complete -C "banger $place $word" >/dev/null; complete -C "banger $place $word b" >/dev/null; end; end
      echo done`;
    const places = `set places ${PLACES.map((place) => `"${place}"`).join(" ")}`;
    const hostile = [...HOSTILE, "(touch proof)", '"$(touch proof)'];
    const result = await shell(["fish", "--no-config", "-c", `${places}; ${script}`, ...hostile]);
    expect(result).toEqual({ status: 0, stdout: "done\n", stderr: "" });
    expectNoProof();
  });

  test.skipIf(!installed("fish"))(`fish${whyNot("fish")}`, async () => {
    const script = `
      source (banger completion fish | psub)
      complete -C "banger vm sta"; complete -C "banger completion f"; complete -C "banger vm workspace prepare --mode=o"`;
    const result = await shell(["fish", "--no-config", "-c", script]);
    expect(result.stdout.split("\n").map((line) => line.split("\t")[0])).toEqual([
      "start",
      "stats",
      "fish",
      "--mode=overlay",
      "",
    ]);
  });
});
