import { once } from "node:events";
import { connectAgent } from "../../../shared/agent/channel.ts";
import { findAgent } from "../../guest/connect.ts";
import { defineCommand } from "../../line/command.ts";
import { checkVmRef } from "../../line/args.ts";
import { StandardInput } from "../../terminal/input.ts";

const CONNECT_TIMEOUT_MS = 10_000;

/**
 * Joins the stream to a guest's agent to this process's stdin and stdout, for banger on another machine (BANGER_HOST). The handshake is
 * done there. Ends when either side does, so that the guest ends what it runs for a banger that is gone.
 */
export const command = defineCommand({
  args: { vm: { type: "positional", required: true, description: "The VM." } },
  examples: [],
  run: async ({ args, client, interrupts, out }) => {
    const { channel } = await findAgent(await client(), checkVmRef(args.vm));
    const stream = await connectAgent(channel, { timeoutMs: CONNECT_TIMEOUT_MS, signal: interrupts.signal });
    await using input = new StandardInput();
    interrupts.signal.addEventListener("abort", () => stream.destroy());
    const closed = once(stream, "close");
    const send = async (): Promise<void> => {
      for (let bytes = await input.read(); bytes !== null; bytes = await input.read())
        if (!stream.write(bytes)) await Promise.race([once(stream, "drain"), closed]);
    };
    const receive = async (): Promise<void> => {
      for await (const bytes of stream as AsyncIterable<Uint8Array>) await out.pass("stdout", bytes);
    };
    try {
      await Promise.race([send(), receive()]);
    } finally {
      stream.destroy();
    }
  },
});
