/** Downloads Firecracker's pinned release; TLS is not what proves it, its digest is. */

import { open } from "node:fs/promises";
import { type FetchError, ofetch } from "ofetch";
import { BangerError } from "../../../shared/errors.ts";
import type { PinnedRelease } from "./release.ts";

const DOWNLOAD_TIMEOUT_MS = 300_000;
const DOWNLOAD_LIMIT_BYTES = 64 * 1024 ** 2;
/** A server that is busy or a connection that breaks before the first byte is tried again so often. */
const RETRIES = 3;
const RETRY_DELAY_MS = 500;

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
  const { body } = await ofetch
    .raw(url, {
      responseType: "stream",
      retry: RETRIES,
      retryDelay: RETRY_DELAY_MS,
      signal: AbortSignal.timeout(DOWNLOAD_TIMEOUT_MS),
    })
    .catch((thrown: FetchError) => {
      throw failed(thrown.status === undefined ? thrown.message : `status ${thrown.status}`, thrown);
    });
  if (body === null) throw failed("an empty answer");
  const hash = new Bun.CryptoHasher("sha256");
  let length = 0;
  await using file = await open(path, "wx", 0o600);
  try {
    for await (const chunk of body) {
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
