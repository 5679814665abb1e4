/** xz and legacy lz4 by their own programs, within bounds. Source: xz(1), lz4(1). */

import { BangerError } from "../../shared/errors.ts";
import { OWNER_TOOLS } from "../../shared/host-needs.ts";
import { confinedCommand, toolEnvironment, toolPath } from "../host/run-tool.ts";

const COMMANDS = {
  xz: ["xz", "-dc"],
  lz4: ["lz4", "-dc"],
} as const;
const TIMEOUT_MS = 60_000;

/**
 * The decompressed bytes. The program is ended as soon as it has given more than `limitBytes`.
 * @throws BangerError TOOL_MISSING, KERNEL_INVALID.
 */
export async function decompressByTool(
  compression: keyof typeof COMMANDS,
  bytes: Uint8Array,
  limitBytes: number,
  signal?: AbortSignal,
): Promise<Uint8Array> {
  const argv = COMMANDS[compression];
  if (Bun.which(argv[0], { PATH: toolPath() }) === null) {
    throw new BangerError(
      "TOOL_MISSING",
      `this kernel is compressed with ${compression}, but ${argv[0]} is not installed`,
      {
        hint: `sudo apt install ${OWNER_TOOLS[argv[0]].package}`,
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
