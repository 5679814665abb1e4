/* The server: waits on every channel of the host, and runs a process for each session. */
#ifndef BANGER_SERVER_H
#define BANGER_SERVER_H

/*
 * Serves sessions and never returns. Called in a process of its own whose root is the guest's root file system; /dev,
 * /proc and /sys are mounted there, or will be.
 */
_Noreturn void server_main(void);

#ifdef BANGER_FOR_TESTS
/* Serves the connections of a listening socket in place of vsock's. */
_Noreturn void server_listen(int listener);
/* Serves one descriptor as if it were a virtio-serial port. */
_Noreturn void server_serve_port(int fd);
#endif

#endif
