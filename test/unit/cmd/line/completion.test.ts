import { describe, expect, test } from "bun:test";
import { complete, joinBashWords, type NameKind, tailForBash } from "../../../../src/cmd/line/completion.ts";
import { ROOT } from "../../../../src/cmd/commands/index.ts";
import { runInProcess } from "../../../support/cli.ts";
import { makeVm } from "../../../support/vm-record.ts";

const NAMES: Readonly<Record<NameKind, readonly string[]>> = {
  vm: ["box", "beta", "otter"],
  image: ["debian-trixie"],
  kernel: ["mine"],
  code: ["VM_NOT_FOUND", "VMM_FAILED"],
  shell: ["bash", "zsh"],
};

async function offer(...words: string[]): Promise<{ readonly values: readonly string[]; readonly files: boolean }> {
  const { candidates, files } = await complete(words, ROOT, async (kind) =>
    NAMES[kind].map((value) => ({ value, description: "" })),
  );
  return { values: candidates.map(({ value }) => value), files };
}

describe("the word under the cursor", () => {
  test.each([
    [["v"], ["vm", "version"]],
    [
      ["vm", "sta"],
      ["start", "stats"],
    ],
    [["intern"], []],
    [["nonsense", ""], []],
    [
      ["vm", "stop", ""],
      ["box", "beta", "otter"],
    ],
    [
      ["vm", "stop", "box", "b"],
      ["box", "beta"],
    ],
    [["rm", "o"], ["otter"]],
    [["vm", "run", "--image", "d"], ["debian-trixie"]],
    [["vm", "run", "--image=d"], ["--image=debian-trixie"]],
    [["vm", "run", "--kernel", ""], ["mine"]],
    [["vm", "run", "--name", ""], []],
    [["image", "show", ""], ["debian-trixie"]],
    [["kernel", "rm", ""], ["mine"]],
    [["explain", "VM_"], ["VM_NOT_FOUND"]],
    [
      ["completion", ""],
      ["bash", "zsh"],
    ],
    [["vm", "exec", "box", "--ti"], ["--timeout"]],
    [
      ["vm", "exec", "--timeout", "5s", ""],
      ["box", "beta", "otter"],
    ],
    [["vm", "run", "--rm", "--r"], []],
    [["vm", "exec", "-e", "A=1", "--en"], ["--env"]],
    [
      ["vm", "workspace", "prepare", "--mode", ""],
      ["overlay", "full_copy"],
    ],
  ])("%p offers %p", async (words, values) => {
    expect((await offer(...words)).values).toEqual(values);
  });

  test("files where files may stand", async () => {
    expect(await offer("cp", "b")).toEqual({ values: ["box:", "beta:"], files: true });
    expect(await offer("kernel", "import", "x", "--from", "")).toEqual({ values: [], files: true });
    expect(await offer("vm", "exec", "box", "--", "l")).toEqual({ values: [], files: true });
    expect((await offer("vm", "stop", "")).files).toBe(false);
  });

  test("nothing inside a guest, whose files this host doesn't know", async () => {
    expect(await offer("cp", "box:")).toEqual({ values: [], files: false });
    expect(await offer("cp", "box:/et")).toEqual({ values: [], files: false });
    expect(await offer("cp", "./a:b")).toEqual({ values: [], files: true });
  });

  test("bash splits --flag=value and VM:PATH", () => {
    expect(joinBashWords(["cp", "box", ":", "/etc", "da"])).toEqual(["cp", "box:/etc", "da"]);
    expect(joinBashWords(["cp", "a", "box", ":"])).toEqual(["cp", "a", "box:"]);
    expect(tailForBash("--image=debian-trixie", "--image=d")).toBe("debian-trixie");
    expect(tailForBash("--image", "--im")).toBe("--image");
    expect(tailForBash("box:", "b")).toBe("box:");
    expect(joinBashWords(["run", "--image", "=", "deb"])).toEqual(["run", "--image=deb"]);
    expect(joinBashWords(["run", "--image", "="])).toEqual(["run", "--image="]);
    expect(joinBashWords(["exec", "-e", "A", "=", "b"])).toEqual(["exec", "-e", "A", "=", "b"]);
  });
});

test("what the shells get", async () => {
  const answers = { "vm.list": [makeVm({ state: "running" })] };
  const bash = await runInProcess(["internal", "complete", "bash", "--", "vm", "stop", ""], answers);
  expect(bash).toMatchObject({ status: 0, stdout: "box\n", stderr: "" });
  const second = await runInProcess(["internal", "complete", "bash", "--", "cp", "box", ":", "/etc", ""], answers);
  expect(second.stdout).toBe(":files\nbox:\n");
  const value = await runInProcess(["internal", "complete", "bash", "--", "run", "--image", "=", ""], {
    "image.list": [{ name: "debian-trixie", distro: "debian", release: "trixie" }],
  });
  expect(value.stdout).toBe("debian-trixie\n");
  const zsh = await runInProcess(["internal", "complete", "zsh", "--", "cp", ""], answers);
  expect(zsh.stdout).toBe(":files\nbox:\trunning, debian-trixie\n");
});

test("without a daemon: nothing, and no complaint", async () => {
  expect(await runInProcess(["internal", "complete", "fish", "--", "vm", "stop", ""])).toMatchObject({
    status: 0,
    stdout: "",
    stderr: "",
  });
});
