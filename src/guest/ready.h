/* When commands can run. */
#ifndef BANGER_READY_H
#define BANGER_READY_H

/*
 * Waits until commands can run: the agent's part of the boot is done, and the image's init has its file systems. Called in
 * a session's process. Returns the bits of READY_FLAG_….
 */
int wait_ready(void);

#endif
