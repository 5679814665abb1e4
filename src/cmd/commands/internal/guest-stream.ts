import { connectAgent } from "../../../shared/agent/channel.ts";
import { findAgent } from "../../guest/connect.ts";
import { STREAM_GREETING } from "../../guest/far-stream.ts";
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
    const wire = await connectAgent(channel, { timeoutMs: CONNECT_TIMEOUT_MS, signal: interrupts.signal });
    out.data(STREAM_GREETING);
    await using input = new StandardInput();
    const over = Promise.withResolvers<void>();
    interrupts.signal.addEventListener("abort", () => over.resolve());
    wire.read({
      onData: (bytes) => {
        wire.pause();
        out.pass("stdout", bytes).then(() => wire.resume(), over.reject);
      },
      onEnd: () => over.resolve(),
    });
    wire.resume();
    // What the host may send ahead is bounded (AGENT_LIMITS), so nothing here waits for the guest to take it.
    const send = async (): Promise<void> => {
      for (let bytes = await input.read(); bytes !== null; bytes = await input.read()) wire.write(bytes);
    };
    try {
      await Promise.race([send(), over.promise]);
    } finally {
      wire.close();
      await wire.gone;
    }
  },
});
