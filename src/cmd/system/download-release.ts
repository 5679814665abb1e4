/** Downloads Firecracker's pinned release; TLS is not what proves it, its digest is. */

import { open } from "node:fs/promises";
import { BangerError } from "../../shared/errors.ts";
import type { PinnedRelease } from "./firecracker-release.ts";

const DOWNLOAD_TIMEOUT_MS = 300_000;
const DOWNLOAD_LIMIT_BYTES = 64 * 1024 ** 2;

/**
 * Into a new file at `path`, in a directory of ours. On an error what is there is not to be used.
 * @throws BangerError NETWORK, DIGEST_MISMATCH
 */
export async function downloadRelease({ url, sha256 }: PinnedRelease, path: string): Promise<void> {
  const failed = (why: string, cause?: unknown): BangerError =>
    new BangerError("NETWORK", `${url} can't be downloaded: ${why}`, {
      cause,
      hint: "give the programs yourself: --firecracker-dir DIR",
    });
  const response = await fetch(url, { signal: AbortSignal.timeout(DOWNLOAD_TIMEOUT_MS) }).catch((thrown: unknown) => {
    throw failed(thrown instanceof Error ? thrown.message : String(thrown), thrown);
  });
  if (!response.ok || response.body === null) throw failed(`status ${response.status}`);
  const hash = new Bun.CryptoHasher("sha256");
  let length = 0;
  await using file = await open(path, "wx", 0o600);
  try {
    for await (const chunk of response.body) {
      length += chunk.length;
      if (length > DOWNLOAD_LIMIT_BYTES) throw failed(`more than ${DOWNLOAD_LIMIT_BYTES} bytes`);
      hash.update(chunk);
      await file.write(chunk);
    }
  } catch (thrown) {
    if (thrown instanceof BangerError) throw thrown;
    throw failed(thrown instanceof Error ? thrown.message : String(thrown), thrown);
  }
  const found = hash.digest("hex");
  if (found !== sha256)
    throw new BangerError("DIGEST_MISMATCH", `${url} has the digest ${found}; it must have ${sha256}`, {
      details: { url, found, wanted: sha256 },
    });
}
