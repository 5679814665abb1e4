/* What only the build for tests can do: run sessions on the machine that tests it. */
#ifndef BANGER_FOR_TESTS_H
#define BANGER_FOR_TESTS_H

#ifdef BANGER_FOR_TESTS
/* --session FD: one session. --listen SOCKET: a server. --port SOCKET: its first connection is served as a virtio-serial port. */
int for_tests_main(int argc, char **argv);
#endif

#endif
