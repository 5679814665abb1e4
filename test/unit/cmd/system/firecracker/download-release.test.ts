import { describe, expect, test } from "bun:test";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { downloadRelease } from "../../../../../src/cmd/system/firecracker/download-release.ts";

const BYTES = Buffer.from("an archive of many bytes");
const DIGEST = new Bun.CryptoHasher("sha256").update(BYTES).digest("hex");

async function download(sha256: string, answer: () => Response): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), "banger-download-"));
  const server = Bun.serve({ port: 0, hostname: "127.0.0.1", fetch: answer });
  try {
    const path = join(directory, "release.tgz");
    await downloadRelease({ version: "1.17.0", url: server.url.href, sha256 }, path);
    return await readFile(path, "utf8");
  } finally {
    await server.stop(true);
    await rm(directory, { recursive: true });
  }
}
/** The code of the error; the promise must not keep its word. */
const codeOf = async (work: Promise<unknown>): Promise<unknown> =>
  await work.then(
    () => "none",
    (thrown: { readonly code?: unknown }) => thrown.code,
  );

describe("the pinned release", () => {
  test("arrives whole when its digest is right", async () => {
    expect(await download(DIGEST, () => new Response(BYTES))).toBe(BYTES.toString());
  });
  test("is refused when one byte differs, is missing or is too many", async () => {
    for (const bytes of [
      Buffer.concat([BYTES, Buffer.from("x")]),
      BYTES.subarray(1),
      Buffer.from("An archive of many bytes"),
    ])
      expect(await codeOf(download(DIGEST, () => new Response(bytes)))).toBe("DIGEST_MISMATCH");
  });
  test("is asked for again when the server is busy", async () => {
    let asked = 0;
    const answer = (): Response => (++asked === 1 ? new Response("busy", { status: 503 }) : new Response(BYTES));
    expect(await download(DIGEST, answer)).toBe(BYTES.toString());
    expect(asked).toBe(2);
  });
  test("is refused when the server has none", async () => {
    expect(await codeOf(download(DIGEST, () => new Response(BYTES, { status: 404 })))).toBe("NETWORK");
  });
});
