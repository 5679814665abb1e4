import { expect, test } from "bun:test";
import { openForUse, probePatience } from "../../../../../src/daemon/guest/ssh/open.ts";
import { guestAddress } from "../../../../support/guest-address.ts";

/** A guest whose sshd answers from the n-th probe on. */
function fakeGuest(answersFrom: number) {
  const guest = {
    probes: 0,
    opens: 0,
    answers: async () => await Promise.resolve(++guest.probes >= answersFrom),
    open: async () => await Promise.resolve(void guest.opens++),
  };
  return guest;
}

const READY_MS = 60_000;
const withAgent = { ...guestAddress, hasAgent: true };
const startedAt = (agoMs: number) => ({ name: "box", startedAt: new Date(Date.now() - agoMs).toISOString() });

test("a probe waits a second at first, and longer the longer the guest has taken", () => {
  expect([0, 5000, 12_000, 60_000, 240_000].map(probePatience)).toEqual([1000, 1000, 2000, 10_000, 40_000]);
});

test("a guest that its agent called ready may not have its sshd yet, and is waited for", async () => {
  const guest = fakeGuest(3);
  await openForUse(guest, withAgent, startedAt(0), READY_MS);
  expect([guest.probes, guest.opens]).toEqual([3, 1]);
});

test("one that was ready by ssh, or has been up for long, is not probed", async () => {
  for (const [address, vm] of [
    [guestAddress, startedAt(0)],
    [withAgent, startedAt(READY_MS * 2)],
  ] as const) {
    const guest = fakeGuest(Infinity);
    await openForUse(guest, address, vm, READY_MS);
    expect([guest.probes, guest.opens]).toEqual([0, 1]);
  }
});

test("an sshd that never comes is given up, by the VM's name", async () => {
  await expect(openForUse(fakeGuest(Infinity), withAgent, startedAt(0), 300)).rejects.toMatchObject({
    code: "GUEST_NOT_READY",
    message: expect.stringContaining("sshd of box"),
  });
});

test("50 who ask at once cost the guest no more than one", async () => {
  const guest = fakeGuest(3);
  const asking = Array.from({ length: 50 }, () => openForUse(guest, withAgent, startedAt(0), READY_MS));
  await Promise.all(asking);
  expect([guest.probes, guest.opens]).toEqual([3, 1]);
  const failing = fakeGuest(Infinity);
  const ends = await Promise.allSettled([1, 2].map(() => openForUse(failing, withAgent, startedAt(0), 300)));
  expect(ends.map(({ status }) => status)).toEqual(["rejected", "rejected"]);
});
