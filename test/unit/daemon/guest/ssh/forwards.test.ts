import { expect, test } from "bun:test";
import { createServer } from "node:net";
import { addForward, removeForward } from "../../../../../src/daemon/guest/ssh/forwards.ts";
import { guestAddress } from "../../../../support/guest-address.ts";

/** A control connection that notes its commands, and fails those that `fails` matches. */
function fakeControl(fails: RegExp) {
  const said: string[] = [];
  return {
    said,
    control: async (_: unknown, command: readonly string[]) => {
      const line = command.join(" ");
      said.push(line);
      return await Promise.resolve({ exitCode: fails.test(line) ? 255 : 0, stdout: "", stderr: "mux: no\n" });
    },
  };
}

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as { port: number };
  await new Promise<void>((resolve) => server.close(() => resolve()));
  return port;
}

test("a forward that ssh refuses is an error, and takes the other address's back", async () => {
  const port = await freePort();
  const ok = fakeControl(/never/);
  await addForward(ok, guestAddress, port, 80);
  const [first = "", last = ""] = [ok.said[0], ok.said.at(-1)];
  expect(first).toBe(`-O forward -L 127.0.0.1:${port}:127.0.0.1:80`);

  const refused = fakeControl(new RegExp(`^${last.replaceAll(/[[\].]/g, "\\$&")}$`));
  await expect(addForward(refused, guestAddress, port, 80)).rejects.toMatchObject({
    code: "FAILED",
    message: expect.stringContaining("mux: no"),
  });
  // A host without IPv6 has one address, and nothing to take back.
  const added = ok.said.slice(0, -1);
  expect(refused.said).toEqual([...ok.said, ...added.map((line) => line.replace("-O forward", "-O cancel"))]);
});

test("a taken port is told before ssh is asked", async () => {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as { port: number };
  const control = fakeControl(/never/);
  await expect(addForward(control, guestAddress, port, 80)).rejects.toMatchObject({ code: "IN_USE" });
  expect(control.said).toEqual([]);
  server.close();
});

test("removal cancels every address, and one that is gone is no error", async () => {
  const gone = fakeControl(/cancel/);
  await removeForward(gone, guestAddress, 8080, 80);
  expect(gone.said).toEqual(["-O cancel -L 127.0.0.1:8080:127.0.0.1:80", "-O cancel -L [::1]:8080:127.0.0.1:80"]);
});
