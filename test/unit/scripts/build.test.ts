import { afterAll, expect, test } from "bun:test";
import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { build, buildArgv, canRunTarget, targetArch } from "../../../scripts/build.ts";

const dir = await mkdtemp(join(tmpdir(), "banger-build-"));
afterAll(async () => {
  await rm(dir, { recursive: true, force: true });
});

async function entry(name: string, text: string): Promise<string> {
  const path = join(dir, name);
  await writeFile(path, text);
  return path;
}

test("every autoload is off, bytecode comes with esm, identifiers keep their names", () => {
  const argv = buildArgv({ entry: "a.ts", outfile: "b", target: "x64-baseline" });
  for (const what of ["dotenv", "bunfig", "tsconfig", "package-json"])
    expect(argv).toContain(`--no-compile-autoload-${what}`);
  expect(argv).toContain("--bytecode");
  expect(argv).toContain("--format=esm");
  expect(argv).toContain("--target=bun-linux-x64-baseline");
  expect(argv.filter((word) => word === "--minify" || word.includes("identifiers"))).toEqual([]);
  expect(buildArgv({ entry: "a.ts", outfile: "b", target: null }).join(" ")).not.toContain("--target");
});

test("only a test build is one, and says so", async () => {
  const given = { entry: "a.ts", outfile: "b", target: null };
  expect(buildArgv(given)).toContain("--define=BANGER_FOR_TESTS=false");
  expect(buildArgv({ ...given, forTests: true })).toContain("--define=BANGER_FOR_TESTS=true");
  const installer = await Bun.file(join(import.meta.dir, "../../../install.sh")).text();
  expect(installer).not.toContain("for-tests");
});

test("a target runs where its architecture is", () => {
  expect(canRunTarget(null, "arm64")).toBe(true);
  expect(canRunTarget("arm64", "x64")).toBe(false);
  expect(canRunTarget("arm64", "arm64")).toBe(true);
  expect(canRunTarget("x64-baseline", "x64")).toBe(true);
  expect(canRunTarget("x64", "arm64")).toBe(false);
});

test("the agent is of the target's architecture, and without a target of this machine's", () => {
  expect(targetArch("arm64", "x64")).toBe("arm64");
  expect(targetArch("x64-baseline", "arm64")).toBe("x64");
  expect(targetArch(null, "arm64")).toBe("arm64");
  expect(targetArch(null, "x64")).toBe("x64");
});

test("the executable has the agent that it was built with", async () => {
  const outfile = join(dir, "with-agent");
  const agent = join(dir, "banger-agent-x64.elf");
  await writeFile(agent, "\u007fELF and more");
  const binary = join(import.meta.dir, "../../../src/shared/agent/binary.ts");
  const main = await entry(
    "agent.ts",
    `import { readAgentBinary } from ${JSON.stringify(binary)};
     console.log(process.argv[2] === "version" ? "7.8.9" : new TextDecoder().decode(await readAgentBinary()));`,
  );
  await build({ entry: main, outfile, target: null, agent }, "7.8.9");
  const ran = Bun.spawnSync([outfile], { cwd: dir });
  expect(ran.stdout.toString()).toBe("\u007fELF and more\n");
}, 60_000);

test("what does not tell its version, or does not compile, never replaces what is there", async () => {
  const outfile = join(dir, "out", "banger");
  const good = await entry("good.ts", 'if (process.argv[2] === "version") console.log("banger 7.8.9");');
  expect(await build({ entry: good, outfile, target: null }, "7.8.9")).toContain("banger 7.8.9");
  const before = (await readFile(outfile)).length;
  const dead = await entry("dead.ts", "export {};");
  await expect(build({ entry: dead, outfile, target: null }, "7.8.9")).rejects.toThrow("does not print its version");
  await expect(build({ entry: good, outfile, target: null }, "7.8.90")).rejects.toThrow("does not print its version");
  const broken = await entry("broken.ts", "const = ;");
  await expect(build({ entry: broken, outfile, target: null }, "7.8.9")).rejects.toThrow("bun build ended with");
  expect((await readFile(outfile)).length).toBe(before);
  expect(await readdir(join(dir, "out"))).toEqual(["banger"]);
}, 60_000);
