/* When commands can run. */
#ifndef BANGER_READY_H
#define BANGER_READY_H

/*
 * Waits until commands can run: the agent's part of the boot is done, and the image's systemd, where it has one, runs: it has set its
 * own mounts, names and limits by then. Called in a session's process. Returns the bits of READY_FLAG_…, or -1 and errno: ETIMEDOUT when
 * a minute was not enough, and the host may ask again.
 */
int wait_ready(void);

#endif
