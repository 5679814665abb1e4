/** Opening the control connection to a guest that may still be booting. */

import type { VmId } from "../../../shared/contract/schemas.ts";
import { BangerError } from "../../../shared/errors.ts";
import type { GuestAddress } from "../address.ts";
import type { GuestConnection } from "../connection.ts";

const FIRST_PROBE_MS = 20;
const SLOWEST_PROBE_MS = 100;
/** A forward may swallow a probe sent before the guest's network is up; a new one answers sooner than its retry. */
const SHORTEST_PROBE_MS = 1000;
/**
 * A probe's patience grows with the time the guest has taken: each costs it a process, and one that is merely slow (many
 * on a busy host) would otherwise be asked anew for ever, and never come to answer.
 */
const PATIENCE_SHARE = 1 / 6;
/** How often a booting guest is looked at while something waits for it. */
export const HEALTH_CHECK_MS = 500;
const LONGEST_OPEN_MS = 60_000;
/** Whoever asks the daemon for a way in waits little longer. */
const LONGEST_USE_MS = 170_000;
/** For what is under way at the deadline. */
const PATIENCE_MS = 2000;

/** A wait for a guest: `check` throws when it is over. */
export interface Wait {
  remainingMs(): number;
  check(): Promise<void>;
  readonly signal: AbortSignal;
}

/** Opens the control connection, as soon as sshd answers. @throws BangerError GUEST_NOT_READY; what `check` throws */
export async function openWhenUp(
  guest: Pick<GuestConnection, "answers" | "open">,
  address: GuestAddress,
  wait: Wait,
): Promise<void> {
  // ssh's own way into a jail waits for the guest: a probe would cost it a process each.
  if (address.jailRoot !== undefined) return await openAgain(guest, address, wait);
  const began = Date.now();
  for (let waitMs = FIRST_PROBE_MS; ; waitMs = Math.min(waitMs * 1.5, SLOWEST_PROBE_MS)) {
    wait.signal.throwIfAborted();
    if (await guest.answers(address, probePatience(Date.now() - began), wait.signal)) break;
    await wait.check();
    await Bun.sleep(waitMs);
  }
  await guest.open(address, Math.min(wait.remainingMs(), LONGEST_OPEN_MS), wait.signal);
}

/** How long a probe waits for an answer, by how long the guest has been starting. */
export function probePatience(elapsedMs: number): number {
  return Math.max(SHORTEST_PROBE_MS, Math.round(elapsedMs * PATIENCE_SHARE));
}

/** Opens the control connection, again when a guest that is half up hangs up, for as long as `check` doesn't throw. */
async function openAgain(
  guest: Pick<GuestConnection, "open">,
  address: GuestAddress,
  { remainingMs, check, signal }: Wait,
): Promise<void> {
  for (;;) {
    const stop = new AbortController();
    const opening = guest.open(address, remainingMs(), AbortSignal.any([signal, stop.signal])).then(
      () => null,
      (thrown: unknown) => ({ thrown }),
    );
    try {
      for (;;) {
        const ended = await Promise.race([opening, Bun.sleep(HEALTH_CHECK_MS)]);
        if (ended === null) return;
        signal.throwIfAborted();
        await check();
        if (ended === undefined) continue;
        if (!(ended.thrown instanceof BangerError) || ended.thrown.code !== "GUEST_NOT_READY") throw ended.thrown;
        await Bun.sleep(SLOWEST_PROBE_MS);
        break;
      }
    } catch (thrown) {
      stop.abort();
      await opening;
      throw thrown;
    }
  }
}

/** What of a VM tells whether its guest may still be booting. */
interface Started {
  readonly name: string;
  readonly startedAt: string | null;
}

/** Per guest, the opening that all who ask for it meanwhile wait for. */
const openings = new WeakMap<object, Map<VmId, Promise<void>>>();

/**
 * Opens the control connection to a guest in use. Who asks while it is being opened, waits for the same: 50 that each probed a busy guest
 * would keep it from ever answering, as each probe costs it a process. @throws BangerError GUEST_NOT_READY
 */
export async function openForUse(
  guest: Pick<GuestConnection, "answers" | "open">,
  address: GuestAddress,
  started: Started,
  readyMs: number,
): Promise<void> {
  const ofGuest = openings.getOrInsertComputed(guest, () => new Map());
  const opening = ofGuest.getOrInsertComputed(
    address.id,
    async () => await openOnce(guest, address, started, readyMs).finally(() => ofGuest.delete(address.id)),
  );
  await opening;
}

/**
 * Opens the control connection to a guest in use. One that became ready by its agent may not have started its sshd yet: it gets what is
 * left of the time for a start, and at least a share of it. @throws BangerError GUEST_NOT_READY
 */
async function openOnce(
  guest: Pick<GuestConnection, "answers" | "open">,
  address: GuestAddress,
  { name, startedAt }: Started,
  readyMs: number,
): Promise<void> {
  const shareMs = readyMs / 5;
  const bootMs = address.hasAgent && startedAt !== null ? Date.parse(startedAt) + readyMs - Date.now() : 0;
  if (bootMs <= 0) return await guest.open(address, shareMs);
  const timeoutMs = Math.min(LONGEST_USE_MS, Math.max(bootMs, shareMs));
  const deadline = Date.now() + timeoutMs;
  await openWhenUp(guest, address, {
    remainingMs: () => Math.max(1000, deadline - Date.now()),
    check: async () => {
      if (Date.now() > deadline)
        throw new BangerError(
          "GUEST_NOT_READY",
          `the sshd of ${name} did not answer within ${Math.round(timeoutMs / 1000)} s`,
          { hint: `banger vm logs ${name}` },
        );
    },
    signal: AbortSignal.timeout(timeoutMs + PATIENCE_MS),
  });
}
