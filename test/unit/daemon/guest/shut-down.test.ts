import { expect, test } from "bun:test";
import { shutDown } from "../../../../src/daemon/guest/shut-down.ts";
import { BangerError } from "../../../../src/shared/errors.ts";
import { guestAddress } from "../../../support/guest-address.ts";

/** A guest that notes what it is told, and answers with `exitCode`. */
function fakeConnection(exitCode: number) {
  const said: (string | number)[] = [];
  return {
    said,
    answers: async () => await Promise.resolve(true),
    open: async (_: unknown, timeoutMs: number) => await Promise.resolve(void said.push(timeoutMs)),
    runLine: async (_: unknown, line: string) => {
      said.push(line);
      return await Promise.resolve({ exitCode, stdout: "", stderr: "" });
    },
  };
}

test("the guest syncs first and ends by the word of its VMM; connecting gets little of the time", async () => {
  const guest = fakeConnection(0);
  expect(await shutDown(guest, guestAddress, "reboot", 10_000)).toBe(true);
  expect(guest.said).toEqual([2000, "sync; systemctl reboot --no-block || reboot"]);
});

test("a guest that refuses, or can't be reached, did not take the order", async () => {
  expect(await shutDown(fakeConnection(1), guestAddress, "poweroff", 10_000)).toBe(false);
  const away = {
    ...fakeConnection(0),
    open: async () => await Promise.reject(new BangerError("GUEST_NOT_READY", "no answer")),
  };
  expect(await shutDown(away, guestAddress, "poweroff", 10_000)).toBe(false);
});

test("a guest whose sshd says nothing is not asked", async () => {
  const silent = { ...fakeConnection(0), answers: async () => await Promise.resolve(false) };
  expect(await shutDown(silent, guestAddress, "poweroff", 10_000)).toBe(false);
  expect(silent.said).toEqual([]);
});

test("a bug is no refusal", async () => {
  const broken = { ...fakeConnection(0), open: async () => await Promise.reject(new TypeError("a bug")) };
  await expect(shutDown(broken, guestAddress, "poweroff", 10_000)).rejects.toThrow("a bug");
});
