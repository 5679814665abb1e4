import { expect, test } from "bun:test";
import { mkdtemp, rm } from "node:fs/promises";
import { createServer } from "node:net";
import { join } from "node:path";
import { encodeFrame } from "../../../src/shared/contract/frames.ts";
import { callHelper } from "../../../src/shared/helper-client.ts";

async function withAnswer<T>(answer: unknown, work: (path: string) => Promise<T>): Promise<T> {
  const dir = await mkdtemp("/tmp/bt-helper-");
  const path = join(dir, "s");
  const server = createServer((socket) => socket.once("data", () => socket.end(encodeFrame(answer))));
  await new Promise<void>((resolve) => server.listen(path, resolve));
  try {
    return await work(path);
  } finally {
    server.close();
    await rm(dir, { recursive: true });
  }
}

test.each([
  [null],
  ["text"],
  [{}],
  [{ error: null }],
  [{ error: { code: 7, message: "seven" } }],
  [{ result: { version: 1 } }],
])("the answer %j is a version mismatch", async (answer) => {
  await withAnswer(answer, async (path) => {
    await expect(callHelper(path, "priv.ping", {})).rejects.toMatchObject({ code: "VERSION_MISMATCH" });
  });
});

test("an error's code is kept, and is FAILED when this version doesn't know it", async () => {
  for (const [code, kept] of [
    ["IN_USE", "IN_USE"],
    ["OF_TOMORROW", "FAILED"],
    ["constructor", "FAILED"],
  ] as const) {
    await withAnswer({ error: { code, message: "no" } }, async (path) => {
      await expect(callHelper(path, "priv.ping", {})).rejects.toMatchObject({ code: kept, message: "no" });
    });
  }
});

test("a helper that isn't there is not waited for unless that is asked", async () => {
  await expect(callHelper("/tmp/bt-no-such-directory/s", "priv.ping", {})).rejects.toMatchObject({
    code: "HELPER_UNREACHABLE",
  });
});

/** Listens with a queue for one, which its own connections fill; takes them when told, and answers the last. */
const FULL_QUEUE = `use Socket; $| = 1;
  socket(my $s, AF_UNIX, SOCK_STREAM, 0); bind($s, pack_sockaddr_un($ARGV[0])) or die; listen($s, 0) or die;
  socket(my $own, AF_UNIX, SOCK_STREAM, 0); connect($own, pack_sockaddr_un($ARGV[0])) or die "$!";
  print "full"; <STDIN>;
  accept(my $c, $s); accept(my $last, $s); sysread($last, my $request, 4096);
  syswrite($last, pack("N", length $ARGV[1]) . $ARGV[1]); <STDIN>;`;

test("a helper whose queue the owner has filled is tried again until it has room", async () => {
  const dir = await mkdtemp("/tmp/bt-queue-");
  const path = join(dir, "s");
  const result = { helper_version: 1, version: "1.2.3", pid: 7, owner_uid: 1000 };
  const helper = Bun.spawn(["perl", "-e", FULL_QUEUE, path, JSON.stringify({ result })], {
    stdin: "pipe",
    stdout: "pipe",
    stderr: "inherit",
  });
  try {
    const { value } = await helper.stdout.getReader().read();
    expect(Buffer.from(value ?? []).toString()).toBe("full");
    const answer = callHelper(path, "priv.ping", {}, { answerMs: 20_000 });
    helper.stdin.write("go\n");
    await helper.stdin.flush();
    expect(await answer).toMatchObject(result);
  } finally {
    helper.kill("SIGKILL");
    await helper.exited;
    await rm(dir, { recursive: true });
  }
});
