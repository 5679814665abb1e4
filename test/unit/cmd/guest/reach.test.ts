/** Which way into a guest is taken, and what happens when it breaks. */

import { afterAll, afterEach, beforeAll, describe, expect, test } from "bun:test";
import { join } from "node:path";
import { type AgentPeer, FakeAgent } from "../../../support/fake-agent.ts";
import { type FakeDaemon, startFakeDaemon } from "../../../support/fake-daemon.ts";

let daemon: FakeDaemon;
let agent: FakeAgent | null = null;
/** What `vm.connect` answers to a client that takes only ssh. */
let ssh: { readonly result: unknown };

beforeAll(async () => {
  daemon = await startFakeDaemon();
  await daemon.actAsGuest('for line do :; done; cd /; exec sh -c "$line"');
  ssh = daemon.answers.get("vm.connect") as typeof ssh;
  await daemon.actAsAgentGuest(join(daemon.dir, "agent"));
  const way = daemon.answers.get("vm.connect") as { readonly result: unknown };
  daemon.answers.set("vm.connect", ({ input, response }) => {
    const takesAgent = (input["accepts"] as string[] | undefined)?.includes("agent") === true;
    response.writeHead(200, { "content-type": "application/json" }).end(JSON.stringify(takesAgent ? way : ssh));
  });
});
afterEach(async () => {
  await agent?.[Symbol.asyncDispose]();
  agent = null;
});
afterAll(async () => await daemon[Symbol.asyncDispose]());

/** An agent that takes one command and then does this. */
async function listen(script: (peer: AgentPeer) => void): Promise<void> {
  agent = await FakeAgent.listen(join(daemon.dir, "agent"), async (peer) => {
    await peer.accept();
    if ((await peer.readRequest()).at(-1)?.name === "exec") script(peer);
  });
}

const asked = (): unknown[] => daemon.requests.splice(0).map(({ input }) => input["accepts"]);

describe("exec", () => {
  test("asks for the agent first, and goes on over ssh when nobody answers there", async () => {
    asked();
    expect(await daemon.run(["exec", "box", "--", "sh", "-c", "echo by ssh; exit 4"])).toEqual({
      ...{ status: 4, stdout: "by ssh\n", stderr: "" },
    });
    expect(asked()).toEqual([["agent", "ssh"], undefined]);
  });

  test("takes the agent where it answers", async () => {
    await listen((peer) => {
      peer.send("started", { pid: 7 });
      peer.send("stdout", { bytes: Buffer.from("by agent\n") });
      peer.exit(5);
    });
    expect(await daemon.run(["exec", "box", "--", "true"])).toEqual({ status: 5, stdout: "by agent\n", stderr: "" });
  });

  test.each([
    ["-u", ["-u", "sam"]],
    ["-l", ["-l"]],
  ])("over ssh has no %s, and says so", async (_, words) => {
    const { status, stderr } = await daemon.run(["exec", ...words, "box", "--", "true"]);
    expect(status).toBe(125);
    expect(stderr).toMatch(/^error: --\w+ needs banger's agent in box, which doesn't answer \[EXEC_FAILED\]\ntry: /);
  });

  test("over ssh carries no bytes that aren't text, and no argument longer than ssh takes", async () => {
    const line = `exec ${daemon.cli.map((word) => `'${word}'`).join(" ")} exec box -- echo $'\\xff'`;
    const child = Bun.spawn(["bash", "-c", line], { env: daemon.env, cwd: daemon.dir, stderr: "pipe" });
    expect(await new Response(child.stderr).text()).toStartWith("error: argument 5 is not UTF-8: ");
    expect(await child.exited).toBe(2);
    const { status, stderr } = await daemon.run(["exec", "box", "--", "echo", "a".repeat(131_000)]);
    expect(stderr).toStartWith("error: the command is too long for ssh");
    expect(status).toBe(2);
  });

  test("over ssh tells a program what it can", async () => {
    const { stdout } = await daemon.run(["exec", "--json", "box", "--", "sh", "-c", "echo out; exit 4"]);
    expect(JSON.parse(stdout)).toMatchObject({
      ...{ status: 4, signal: null, userMs: null, peakMemoryBytes: null },
      stdout: { data: "out\n" },
    });
  });

  test("a connection that is lost is 125 with the next command", async () => {
    await listen((peer) => {
      peer.send("started", { pid: 7 });
      peer.socket.end();
    });
    const { status, stderr } = await daemon.run(["exec", "box", "--", "true"]);
    expect(status).toBe(125);
    expect(stderr).toMatch(/^error: the connection to box was lost: .* \[EXEC_FAILED\]\ntry: banger vm show box\n$/);
  });

  test("an agent that lies is 125, and nothing of it reaches the terminal unfiltered", async () => {
    await listen((peer) => peer.send("error", { code: 6, errno: 1, bytes: Buffer.from("\u001b]0;owned\u0007fork") }));
    const { status, stderr } = await daemon.run(["exec", "box", "--", "true"]);
    expect({ status, hasEscape: stderr.includes("\u001b") }).toEqual({ status: 125, hasEscape: false });
  });
});

describe("an older daemon", () => {
  test("that knows no accepts is asked for ssh", async () => {
    const { stdout } = await withOlderDaemon(async (older) => await older.run(["exec", "box", "--", "echo", "hi"]));
    expect(stdout).toBe("hi\n");
  });
});

async function withOlderDaemon<T>(use: (older: FakeDaemon) => Promise<T>): Promise<T> {
  await using older = await startFakeDaemon();
  await older.actAsGuest();
  const way = older.answers.get("vm.connect") as object;
  older.answers.set("vm.connect", ({ input, response }) => {
    const refusal = { error: { code: "INVALID_REQUEST", message: "accepts: there is no such field" } };
    const answer = input["accepts"] === undefined ? way : refusal;
    response.writeHead(200, { "content-type": "application/json" }).end(JSON.stringify(answer));
  });
  return await use(older);
}
