/** This process's signals, while a command runs in a guest: they are the command's. */

import { constants } from "node:os";
import type { Interrupts } from "../../terminal/interrupts.ts";
import { PATIENCE } from "./command.ts";

/** Besides those of {@link Interrupts}: what would end banger, but is meant for the command. */
const FORWARDED = ["SIGQUIT", "SIGUSR1", "SIGUSR2"] as const;

export interface SignalTakers {
  /** Sends a signal to the command in the guest. */
  send(number: number): void;
  /** The signal that came once too often. */
  leave(number: number): void;
  /** The terminal has another size. */
  resize(): void;
  /** Before this process is stopped by a signal that asks it to (ctrl-z), and when it goes on. */
  pause(): Promise<void>;
  resume(): void;
}

/** Takes the signals until disposed of. */
export function takeSignals(interrupts: Interrupts, takers: SignalTakers): Disposable {
  let count = 0;
  const forward = (name: NodeJS.Signals): void => {
    const number = constants.signals[name];
    const asksToEnd = name !== "SIGUSR1" && name !== "SIGUSR2";
    if (asksToEnd && ++count >= PATIENCE) takers.leave(number);
    else takers.send(number);
  };
  /** Stops this process as if it had not caught the signal, so that its shell sees a stopped job. */
  const stop = async (): Promise<void> => {
    await takers.pause();
    process.off("SIGTSTP", onStop);
    process.kill(process.pid, "SIGTSTP");
    // Here again after SIGCONT; or at once, where no shell could continue this process (setpgid(2), orphaned process groups).
    process.on("SIGTSTP", onStop);
    takers.resume();
  };
  const onStop = (): void => void stop();
  const listeners: readonly (readonly [NodeJS.Signals, () => void])[] = [
    ...FORWARDED.map((name) => [name, () => forward(name)] as const),
    ["SIGTSTP", onStop],
    ["SIGCONT", () => takers.resume()],
    ["SIGWINCH", () => takers.resize()],
  ];
  const taken = interrupts.take(forward);
  for (const [name, listener] of listeners) process.on(name, listener);
  return {
    [Symbol.dispose]: () => {
      for (const [name, listener] of listeners) process.off(name, listener);
      taken[Symbol.dispose]();
    },
  };
}
