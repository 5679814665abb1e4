import { connect } from "node:net";
import { defineCommand } from "../../line/command.ts";
import { BangerError } from "../../../shared/errors.ts";
import { vmOfHost } from "../../guest/vm-host.ts";

const CONNECT_TIMEOUT_MS = 10_000;

export const command = defineCommand({
  args: { host: { type: "positional", required: true, description: "NAME.vm" } },
  examples: [],
  run: async ({ args, client, interrupts, out }) => {
    const vm = vmOfHost(args.host);
    const { state, name, address } = await (await client()).call("vm.show", { vm });
    if (state !== "running" || address === null)
      throw new BangerError("WRONG_STATE", `${name} is ${state}`, {
        hint: state === "stopped" || state === "created" ? `banger vm start ${name}` : `banger vm show ${name}`,
      });
    const colon = address.lastIndexOf(":");
    const socket = connect({ host: address.slice(0, colon), port: Number(address.slice(colon + 1)) });
    interrupts.signal.addEventListener("abort", () => socket.destroy());
    const timer = setTimeout(() => socket.destroy(new Error("no connection in time")), CONNECT_TIMEOUT_MS);
    socket.once("connect", () => clearTimeout(timer));
    process.stdin.pipe(socket);
    try {
      for await (const chunk of socket as AsyncIterable<Uint8Array>) out.data(chunk);
    } catch (thrown) {
      throw new BangerError("GUEST_NOT_READY", `${name}: ${(thrown as Error).message}`, {
        hint: `banger vm logs ${name}`,
        cause: thrown,
      });
    } finally {
      clearTimeout(timer);
      socket.destroy();
      process.stdin.destroy();
    }
  },
});
