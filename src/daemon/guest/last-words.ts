/** What a guest's kernel prints last, and so how the guest ended. Pure. Source: Linux, kernel/reboot.c. */

/**
 * What the kernel prints last before it resets the machine, and after that only its own notice. A panic ends without
 * these words, and so does a power-off.
 */
const RESTARTING = /reboot: Restarting system[^\n]*\s*(?:[^\n]*reboot: machine restart\s*)?$/;
/** What the kernel prints last when it has no way to cut the power: the guest is over, its VMM isn't. */
const POWERED_DOWN = /reboot: (?:Power down|System halted)\s*$/;

/** How much of the console's end tells. */
export const LAST_WORDS_BYTES = 256;

export const isReboot = (lastWords: string): boolean => RESTARTING.test(lastWords);
export const isPowerOff = (lastWords: string): boolean => POWERED_DOWN.test(lastWords);
