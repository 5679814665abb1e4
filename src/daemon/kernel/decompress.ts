/** xz and legacy lz4 by their own programs, within bounds. Source: xz(1), lz4(1). */

import { BangerError } from "../../shared/errors.ts";
import { confinedCommand, toolEnvironment, toolPath } from "../host/run-tool.ts";

const PROGRAM = {
  xz: { argv: ["xz", "-dc"], package: "xz-utils" },
  lz4: { argv: ["lz4", "-dc"], package: "lz4" },
} as const;
const TIMEOUT_MS = 60_000;

/**
 * The decompressed bytes. The program is ended as soon as it has given more than `limitBytes`.
 * @throws BangerError TOOL_MISSING, KERNEL_INVALID.
 */
export async function decompressByTool(
  compression: keyof typeof PROGRAM,
  bytes: Uint8Array,
  limitBytes: number,
  signal?: AbortSignal,
): Promise<Uint8Array> {
  const { argv, package: packageName } = PROGRAM[compression];
  if (Bun.which(argv[0], { PATH: toolPath() }) === null) {
    throw new BangerError(
      "TOOL_MISSING",
      `this kernel is compressed with ${compression}, but ${argv[0]} is not installed`,
      {
        hint: `sudo apt install ${packageName}`,
        details: { program: argv[0] },
      },
    );
  }
  signal?.throwIfAborted();
  const command = await confinedCommand(argv, { processes: 16 });
  const child = Bun.spawn([...command], {
    stdin: bytes,
    stdout: "pipe",
    stderr: "ignore",
    env: toolEnvironment(),
    timeout: TIMEOUT_MS,
    killSignal: "SIGKILL",
    ...(signal === undefined ? {} : { signal }),
  });
  const chunks: Uint8Array[] = [];
  let length = 0;
  try {
    for await (const chunk of child.stdout) {
      length += chunk.length;
      if (length > limitBytes)
        throw new BangerError(
          "KERNEL_INVALID",
          `the ${compression} payload unpacks to more than the limit of ${limitBytes} bytes`,
        );
      chunks.push(chunk);
    }
    const exitCode = await child.exited;
    signal?.throwIfAborted();
    if (exitCode !== 0) throw new BangerError("KERNEL_INVALID", `the ${compression} payload is damaged`);
  } finally {
    child.kill("SIGKILL");
  }
  return Buffer.concat(chunks);
}
