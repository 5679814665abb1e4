import { expect, test } from "bun:test";
import type { Client } from "../../../../src/cmd/daemon/client.ts";
import { connectGuest } from "../../../../src/cmd/guest/connect.ts";
import { sampleOf } from "../../../contract/samples.ts";
import { METHODS } from "../../../../src/shared/contract/owner-api.ts";
import * as v from "valibot";

const OLD = { id: "0123456789ab", name: "box", sshArgv: ["ssh", "root@guest"], workDir: "/root" };

/** A client whose daemon answers `vm.connect` with this. */
const clientOf = (answer: object, via?: readonly string[]): Client =>
  ({ call: async () => await Promise.resolve(answer), ...(via === undefined ? {} : { via }) }) as unknown as Client;

test("a way in by ssh is taken as it is", async () => {
  const way = { kind: "ssh", ...OLD };
  expect(await connectGuest(clientOf(way), "box")).toEqual(way as never);
});

test("a daemon from before there were kinds means ssh", async () => {
  expect(await connectGuest(clientOf(OLD), "box")).toEqual({ kind: "ssh", ...OLD } as never);
});

test("a guest of another machine is reached through that machine, and the result is still of the contract", async () => {
  const way = await connectGuest(clientOf({ kind: "ssh", ...OLD }, ["ssh", "me@host"]), "box");
  expect(way.via).toEqual(["ssh", "me@host"]);
  expect(v.is(METHODS["vm.connect"].output, way)).toBe(true);
});

test("a newer daemon's other way in is refused by name, not tried as ssh", async () => {
  const agent = { kind: "agent", id: OLD.id, name: "box", socket: "/run/agent.sock" };
  await expect(connectGuest(clientOf(agent), "box")).rejects.toMatchObject({
    code: "VERSION_MISMATCH",
    message: expect.stringContaining("agent"),
  });
});

test("an older client finds every field where it was", () => {
  const answer = sampleOf(METHODS["vm.connect"].output) as Record<string, unknown>;
  expect(Object.keys(answer)).toEqual(["kind", ...Object.keys(OLD), "via"]);
});
