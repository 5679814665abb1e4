/** Output that can't be written, readers that went away, arguments that aren't text: the CLI as a process. */

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { resolve } from "node:path";
import { rootlessPaths } from "../../../src/shared/places/paths.ts";
import { beginStream, type FakeDaemon, startFakeDaemon } from "../../support/fake-daemon.ts";
import { makeVm } from "../../support/vm-record.ts";

const CLI = [process.execPath, resolve("src/main.ts")];
const BYTES = Buffer.from([0x41, 0xff, 0x0a, 0xc3, 0x1b, 0x5b, 0x32, 0x4a, 0xe2, 0x82, 0x0a]);

let daemon: FakeDaemon;
beforeAll(async () => {
  daemon = await startFakeDaemon();
  await daemon.actAsGuest();
  daemon.answers.set("vm.list", { result: [makeVm({ state: "running" })] });
  daemon.answers.set("vm.show", { result: makeVm({}) });
  daemon.answers.set("vm.stop", { result: [{ ref: "box", vm: makeVm({}), error: null }] });
});
afterAll(async () => await daemon[Symbol.asyncDispose]());

/** A shell line in which `banger` is the CLI. */
async function shell(line: string): Promise<{ status: number; stdout: string; stdoutBytes: Buffer; stderr: string }> {
  const child = Bun.spawn(["bash", "-c", `banger() { ${CLI.map((word) => `'${word}'`).join(" ")} "$@"; }; ${line}`], {
    cwd: daemon.dir,
    env: daemon.env,
    stdin: "ignore",
    stdout: "pipe",
    stderr: "pipe",
  });
  const [bytes, stderr, status] = await Promise.all([
    new Response(child.stdout).bytes(),
    new Response(child.stderr).text(),
    child.exited,
  ]);
  return { status, stdout: new TextDecoder().decode(bytes), stdoutBytes: Buffer.from(bytes), stderr };
}

describe("a full standard output", () => {
  test.each(["ps --json", "vm show box", "version", "--help", "vm stop --json box", "explain", "ssh-config"])(
    "banger %s says so in one line",
    async (words) => {
      expect(await shell(`banger ${words} >/dev/full`)).toMatchObject({
        status: 31,
        stderr: "error: the answer could not be written: no space is left on the device [OUTPUT_FAILED]\n",
      });
    },
  );

  test("also where the answer was an error", async () => {
    expect(await shell("banger vm prune --json --bad >/dev/full")).toMatchObject({ status: 2 });
    expect((await shell("banger vm prune --json --bad >/dev/full")).stderr).toContain("[OUTPUT_FAILED]\n");
  });
});

describe("a full standard error", () => {
  test.each(["ps", "vm stop box", "config", "exec box -- true"])("banger %s does its work", async (words) => {
    expect((await shell(`banger ${words} 2>/dev/full`)).status).toBe(0);
  });

  test("an error keeps its status", async () => {
    expect((await shell("banger explain NO_SUCH 2>/dev/full")).status).toBe(2);
    expect((await shell("banger ps --no-such >/dev/full 2>/dev/full")).status).toBe(2);
  });
});

describe("arguments that aren't UTF-8", () => {
  test.each([
    ["of a guest command", "exec box -- printf '[%s]' $'\\xff'", 6],
    ["a path", "cp ./$'caf\\xe9' box:", 2],
    ["a name", "vm show $'\\xc3('", 3],
    ["beside one that holds U+FFFD itself", "exec box -- printf $'\\xef\\xbf\\xbd' $'\\xff'", 6],
  ])("%s: refused", async (_, words, position) => {
    const result = await shell(`banger ${words}`);
    expect(result).toMatchObject({ status: 2, stdout: "" });
    expect(result.stderr).toStartWith(`error: argument ${position} is not UTF-8: `);
  });

  test.each([
    ["U+FFFD that was typed", "$'\\xef\\xbf\\xbd'", "\u{fffd}"],
    ["letters of any script", "'é箱 👩'", "é箱 👩"],
    ["nothing, and control characters", "'' $'\\x01\\n'", "|\u0001\n"],
  ])("%s: carried", async (_, words, expected) => {
    const { stdout, status } = await shell(`banger exec box -- sh -c 'IFS="|"; printf %s "$*"' sh ${words}`);
    expect({ stdout, status }).toEqual({ stdout: expected, status: 0 });
  });
});

describe("files that aren't what they must be", () => {
  test.each([
    ["a configuration that is a directory", "mkdir -p .config/banger/config.toml && banger config", "config.toml"],
    ["a HOME that is a file", "touch file; HOME=$PWD/file banger ssh-config --install", "/file"],
    ["a .ssh that is a file", "mkdir h; touch h/.ssh; HOME=$PWD/h banger ssh-config --install", "/h/.ssh"],
    [
      "a .ssh/config in a circle",
      "mkdir -p c/.ssh; ln -s config c/.ssh/config; HOME=$PWD/c banger ssh-config --install",
      "itself",
    ],
  ])("%s", async (_, line, named) => {
    const { status, stderr } = await shell(line);
    expect(stderr).toContain("[NOT_A_FILE]\ntry: ls -l");
    expect(stderr.split("\n")[0]).toContain(named);
    expect(status).toBe(15);
  });

  const rest = "export HOME=$PWD/closed; mkdir -p closed/.ssh closed/.config/banger; chmod 0 closed/.ssh; ";
  test.skipIf(process.getuid?.() !== 0)("that this user may not read (tried as root, who becomes nobody)", async () => {
    const as = "setpriv --reuid 65534 --regid 65534 --clear-groups ";
    await shell(`chmod 711 .; mkdir -p closed; chown 65534 closed; ${rest}`);
    await shell("echo > closed/.config/banger/config.toml; chmod 0 closed/.config/banger/config.toml");
    for (const words of ["config", "ssh-config --install"]) {
      const line = CLI.map((word) => `'${word}'`).join(" ");
      const result = await shell(`export HOME=$PWD/closed; ${as} ${line} ${words}`);
      if (result.stderr.includes("setpriv:") || result.stderr.includes("Permission denied")) {
        console.log("skip: nobody may not run this checkout");
        return;
      }
      expect(result.stderr).toContain("[NO_ACCESS]\ntry: ls -ld");
      expect(result.status).toBe(14);
    }
  });
});

describe("the input of a loop", () => {
  const LOOP = (command: string): string =>
    `printf '1\\n2\\n3\\n' | while read -r line; do echo "$line"; ${command}; done`;

  test.each(["exec -n box -- cat", "ssh -n box -- cat", "exec --no-stdin box -- sh -c 'cat; read -r x; true'"])(
    "banger %s leaves it to the loop",
    async (words) => {
      expect(await shell(LOOP(`banger ${words}`))).toMatchObject({ status: 0, stdout: "1\n2\n3\n", stderr: "" });
    },
  );

  test("without -n it is the command's", async () => {
    expect((await shell(LOOP("banger exec box -- cat"))).stdout).toBe("1\n2\n3\n");
    expect((await shell(LOOP("banger exec box -- cat >/dev/null"))).stdout).toBe("1\n");
  });

  test("a shell reads its input", async () => {
    expect(await shell("banger ssh -n box")).toMatchObject({ status: 2 });
  });
});

describe("logs", () => {
  test("piped are the log's bytes", async () => {
    daemon.answers.set("vm.logs", ({ response }) => {
      const send = beginStream(response);
      send({ event: "data", data: BYTES.toString("utf8"), base64: BYTES.toString("base64") });
      send({ event: "data", data: "text\u001b[2J\r\n" });
      send({ event: "result", result: {} });
    });
    const expected = Buffer.concat([BYTES, Buffer.from("text\u001b[2J\r\n")]);
    expect((await shell("banger logs box | cat")).stdoutBytes).toEqual(expected);
    expect(JSON.parse((await shell("banger logs --json box | head -1")).stdout)).toEqual({ data: BYTES.toString() });
  });

  const script = Bun.which("script");
  test.skipIf(script === null)(
    "on a real terminal they are printable (skipped where script(1) is missing)",
    async () => {
      daemon.answers.set("vm.logs", ({ response }) => {
        const send = beginStream(response);
        const title = Buffer.concat([Buffer.from("\u001b]0;owned\u0007\u001b[2Jtext\n"), BYTES]);
        for (const byte of title) {
          const one = Buffer.from([byte]);
          send({ event: "data", data: one.toString("utf8"), base64: one.toString("base64") });
        }
        send({ event: "result", result: {} });
      });
      const inner = `${CLI.map((word) => `'${word}'`).join(" ")} logs box`;
      const { stdoutBytes } = await shell(`script -qec "${inner}" /dev/null`);
      // Neither script's nor the terminal's own, which end lines with CRLF.
      const shown = stdoutBytes.toString("latin1").replaceAll("\r\n", "\n");
      expect(shown).toBe("\\x1b]0;owned\\x07\\x1b[2Jtext\nA\\xff\n\\xc3\\x1b[2J\\xe2\\x82\n");
    },
  );

  test.each(["logs -f box", "vm stats --watch", "daemon logs -f"])(
    "%s ends when nobody reads it any more, though nothing more is said",
    async (words) => {
      daemon.answers.set("vm.stats", { result: [] });
      daemon.answers.set("vm.logs", ({ response }) => {
        const send = beginStream(response);
        send({ event: "data", data: "one line\n" });
        daemon.answers.set("operation.cancel", (request) => {
          request.response.writeHead(200, { "content-type": "application/json" }).end('{"result":{}}');
          send({ event: "error", error: { code: "CANCELLED", message: "cancelled" } });
        });
      });
      const log = rootlessPaths(daemon.env, daemon.dir, -1).daemonLog;
      await Bun.write(log, "one line\n");
      const result = await shell(`set -o pipefail; banger ${words} | head -1`);
      expect(result).toMatchObject({ status: 0, stderr: "" });
      expect(result.stdout).not.toBe("");
    },
  );
});
