import { describe, expect, test } from "bun:test";
import { planCommand } from "../../../../src/cmd/line/parse.ts";
import { ROOT } from "../../../../src/cmd/commands/index.ts";
import { type Group, isGroup } from "../../../../src/cmd/line/command.ts";
import { makeVm } from "../../../support/vm-record.ts";
import { runInProcess } from "../../../support/cli.ts";

describe("the command line", () => {
  test.each([
    ["vm bogus", /^error: banger vm has no command "bogus" \[USAGE\]\ntry: banger vm --help\n$/],
    ["lsit", /no command "lsit"; did you mean list\?|no command "lsit" \[USAGE\]/],
    ["vm lsit", /did you mean list\? \[USAGE\]/],
    ["imgae", /did you mean image\?/],
    ["constructor", /no command "constructor" \[USAGE\]/],
    ["vm __proto__", /no command "__proto__" \[USAGE\]/],
    ["toString", /no command "toString"/],
    ["vm run --nmae x", /no flag --nmae; did you mean --name\? \[USAGE\]\ntry: banger vm run --help/],
    ["vm run -name x", /no flag -name; did you mean --name\?/],
    ["vm run --constructor", /no flag --constructor/],
    ["vm run --Name x", /no flag --Name; did you mean --name\?/],
    ["vm run --diskSize 1G", /no flag --diskSize/],
    ["vm run --n x", /no flag --n/],
    ["vm list -aZ", /no flag -Z/],
    ["vm run --rm --rm", /--rm is given twice/],
    ["vm run --name a --name b", /--name is given twice/],
    ["vm run --nat --no-nat", /--no-nat is given twice/],
    ["vm list -a --all", /--all is given twice/],
    ["vm run --name", /--name needs a value/],
    ["vm run --name --rm", /--name needs a value/],
    ["vm run --name -- true", /--name needs a value/],
    ["vm list --all=yes", /--all takes no value/],
    ["ps --json=3", /--json takes no value/],
    ["vm show", /needs VM/],
    ["vm stop", /at least one VM/],
    ["vm show a b", /does not take "b"/],
    ["vm list -- x", /takes no command after --/],
    ["vm exec box ls", /does not take "ls"; the command goes after --/],
    ["vm exec box", /needs a command after --/],
    ["vm exec box --", /needs a command after --/],
    ["vm run --", /there is no command after --/],
    ["vm run -d --rm", /-d can't be combined with --rm/],
    ["vm run -d -- true", /-d can't be combined with a command/],
    ["vm run --branch b", /--branch needs PATH/],
    ["vm exec -e NOPE box -- true", /-e must be NAME=VALUE, not "NOPE"/],
    ["vm exec -e 1A=b box -- true", /-e must be NAME=VALUE/],
    ["vm kill --signal TREM box", /did you mean TERM\?/],
    ["vm set box", /nothing to change/],
    ["vm cp a b", /written VM:PATH/],
    ["vm cp x:a y:b", /exactly one side must be in a VM/],
    ["ssh-config --install --uninstall", /can't be combined/],
    ["explain VM_NOTFOUND", /did you mean VM_NOT_FOUND\?/],
    ["completion tcsh", /one of bash, zsh, fish/],
    ["--bogus", /takes no --bogus before its command/],
    ["--jsno ps", /did you mean --json\?/],
    ["vm ''", /no command "''"/],
  ])("banger %s is refused with status 2", async (line, message) => {
    const result = await runInProcess(line.split(" "));
    expect(result.stderr).toMatch(message);
    expect({ status: result.status, stdout: result.stdout, calls: result.calls }).toEqual({
      status: 2,
      stdout: "",
      calls: [],
    });
  });

  test.each([
    [["vm", "run", "--memory", "lots"], /--memory must be a size such as 2G, not "lots" \[INVALID_VALUE\]/],
    [["vm", "run", "--memory", "1M"], /--memory must be at least 128 MiB/],
    [["vm", "run", "--vcpu", "0"], /--vcpu must be a whole number from 1 to 64, not "0"/],
    [["vm", "run", "--vcpu", "1e1"], /--vcpu must be/],
    [["vm", "run", "--disk-size", "-1G"], /--disk-size must be a size/],
    [["vm", "run", "--disk-size=9999999T"], /--disk-size must be/],
    [["vm", "run", "--name", "-lead"], /--name must be 1 to 63 .* \[INVALID_NAME\]/],
    [["vm", "run", "--name", "Bad_Name"], /INVALID_NAME/],
    [["vm", "run", "--name", "$(id)", "--", "true"], /INVALID_NAME/],
    [["vm", "run", "--name", ""], /INVALID_NAME/],
    [["vm", "run", "--image", "../../etc"], /--image must be .* \[INVALID_NAME\]/],
    [["vm", "exec", "--timeout", "soon", "box", "--", "true"], /--timeout must be a duration/],
    [["vm", "exec", "--timeout", "0", "box", "--", "true"], /--timeout must be a duration/],
    [["vm", "logs", "-n", "few", "box"], /--tail must be a whole number/],
    [["vm", "forward", "box", "70000"], /a port must be a whole number from 1 to 65535/],
    [["vm", "forward", "box", "1:2:3"], /PORT or HOSTPORT:PORT/],
  ])("%p names the flag and ends with 2", async (argv, message) => {
    const result = await runInProcess(argv);
    expect(result.stderr).toMatch(message);
    expect({ status: result.status, calls: result.calls }).toEqual({ status: 2, calls: [] });
  });

  test("everything after -- is the guest command's, help and json included", async () => {
    const plan = await planCommand(
      ["exec", "-e", "A=1", "-eB=2", "box", "--", "ls", "-h", "--help", "--json", "--"],
      ROOT,
    );
    if (plan.kind !== "run") throw new Error(plan.kind);
    expect(plan.scanned).toMatchObject({
      rest: ["ls", "-h", "--help", "--json", "--"],
      lists: { env: ["A=1", "B=2"] },
      json: false,
    });
    expect({ ...plan.scanned.args }).toMatchObject({ vm: "box" });
  });

  test.each([
    [["vm", "run", "--name=x", "-d"], { name: "x", detach: true, nat: undefined, bootstrap: true }],
    [["vm", "run", "--no-nat", "--no-bootstrap"], { nat: false, bootstrap: false }],
    [["vm", "create", "--no-start"], { start: false }],
    [["vm", "list", "-aq"], { all: true, quiet: true }],
    [["vm", "logs", "-fn20", "box"], { follow: true, tail: "20", vm: "box" }],
    [["vm", "logs", "-n", "-5", "box"], { tail: "-5" }],
    [["vm", "exec", "-w=/x", "box", "--", "true"], { workdir: "=/x" }],
    [["cp", "-", "box:/x"], { dst: "box:/x" }],
    [["vm", "run", "--name=--rm"], { name: "--rm" }],
    [["vm", "run", "--name="], { name: "" }],
  ])("%p is read", async (argv, args) => {
    const plan = await planCommand(argv, ROOT);
    if (plan.kind !== "run") throw new Error(plan.kind);
    expect({ ...plan.scanned.args }).toMatchObject(args);
  });

  test("words before the last one are sources", async () => {
    const plan = await planCommand(["cp", "-r", "-", "a", "box:b", "box:/x"], ROOT);
    expect(plan).toMatchObject({ kind: "run", scanned: { many: ["-", "a", "box:b"], args: { dst: "box:/x" } } });
    for (const [words, missing] of [
      [[], "DST"],
      [["a"], "at least one SRC"],
    ] as const)
      expect(planCommand(["cp", ...words], ROOT)).rejects.toThrow(`needs ${missing}`);
  });

  test("--json and --no-color may stand before the command", async () => {
    const plan = await planCommand(["--no-color", "vm", "--json", "list"], ROOT);
    expect(plan).toMatchObject({ kind: "run", scanned: { json: true, noColor: true } });
  });

  test.each([["--version"], ["version"]])("%s", async (word) => {
    expect(await runInProcess([word])).toMatchObject({ status: 0, stdout: expect.stringMatching(/^banger \d/) });
  });

  test("errors are a JSON document on stdout where JSON is asked for", async () => {
    const unknown = await runInProcess(["vm", "lsit", "--json"]);
    expect(unknown).toMatchObject({ status: 2, stderr: "" });
    expect(JSON.parse(unknown.stdout)).toEqual({
      error: { code: "USAGE", message: expect.stringContaining("lsit"), hint: "banger vm --help" },
    });
    const both = await runInProcess(["vm", "run", "--json", "--", "true"]);
    expect(JSON.parse(both.stdout)).toMatchObject({
      error: { code: "USAGE", message: expect.stringMatching(/^--json can't be combined with a command/) },
    });
    const after = await runInProcess(["vm", "exec", "--bogus", "box", "--", "x", "--json"]);
    expect(after).toMatchObject({ status: 2, stdout: "" });
  });
});

describe("exit statuses", () => {
  test.each([
    [["vm", "show", "box"], 50],
    [["vm", "exec", "box", "--", "true"], 125],
    [["vm", "ssh", "box", "--", "true"], 125],
    [["vm", "ssh", "box"], 50],
    [["vm", "run", "--", "true"], 125],
    [["vm", "run", "-d"], 50],
    [["vm", "show", "No_Such"], 20],
    [["vm", "run", "."], 1],
    [["image", "pull", "debian"], 1],
  ])("%p without an answer ends with %d", async (argv, status) => {
    expect((await runInProcess(argv)).status).toBe(status);
  });

  test("doctor without a daemon still says something, and fails", async () => {
    const result = await runInProcess(["doctor"]);
    expect(result.status).toBe(1);
    expect(result.stdout).toContain("FAIL  daemon:");
  });
});

test("every name in the table leads to a command that has an example and describes its arguments", async () => {
  const visit = async (group: Group, path: readonly string[]): Promise<void> => {
    expect(Object.getPrototypeOf(group.commands)).toBeNull();
    for (const [name, node] of Object.entries(group.commands)) {
      if (isGroup(node)) {
        await visit(node, [...path, name]);
        continue;
      }
      const command = await node.load();
      if (node.hidden !== true && path[0] !== "internal") expect(command.examples.length).toBeGreaterThan(0);
      for (const arg of Object.values(command.args)) expect(arg.description ?? "").not.toBe("");
    }
  };
  await visit(ROOT, []);
});

test("examples of help are command lines that are understood", async () => {
  const lines: string[] = [];
  const visit = async (group: Group): Promise<void> => {
    lines.push(...[...group.usual, ...group.next].map(([line]) => line));
    for (const node of Object.values(group.commands)) {
      if (isGroup(node)) await visit(node);
      else lines.push(...(await node.load()).examples.map(([line]) => line));
    }
  };
  await visit(ROOT);
  for (const line of lines) {
    const words = line
      .replace(/^(?:sudo|tar [^|]*\|) /, "")
      .replace(/ [|>] .*$/, "")
      .replace(/\$\(.*\)/, "x")
      .split(" ");
    expect(words.shift()).toBe("banger");
    const plan = await planCommand(words, ROOT).catch((thrown: unknown) => `${line}: ${String(thrown)}`);
    expect(plan).toBeObject();
  }
  expect(lines.length).toBeGreaterThan(60);
});

test("--no-start, several VMs and values reach the daemon as they were meant", async () => {
  const resolved = {
    image: "debian-trixie",
    imagePresent: true,
    spec: makeVm().spec,
    acceleration: "tcg",
    accelerationReason: "there is no /dev/kvm",
  };
  const created = await runInProcess(
    ["vm", "create", "--no-start", "--name", "box", "--memory", "2G", "--vcpu", "3", "--disk-size", "20G", "--nat"],
    { "vm.resolveSpec": resolved, "vm.create": makeVm() },
  );
  expect(created).toMatchObject({ status: 0, stdout: "box\n" });
  expect(created.calls.at(-1)).toEqual([
    "vm.create",
    { name: "box", spec: { vcpu: 3, memoryMiB: 2048, diskBytes: 20 * 1024 ** 3, nat: true }, start: false },
  ]);
  expect(created.stderr).toContain("2 vCPU, 1 GiB memory");
  const killed = await runInProcess(["vm", "kill", "--signal", "SIGTERM", "a", "b"], { "vm.kill": [] });
  expect(killed.calls).toEqual([["vm.kill", { vms: ["a", "b"], signal: "TERM" }]]);
});
