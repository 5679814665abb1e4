#include "for-tests.h"

#ifdef BANGER_FOR_TESTS

#include <linux/capability.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include "server.h"
#include "session/session.h"

/* A test must not set the clock of the machine that runs it, nor end that machine. */
static int drop_powers(void) {
  struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
  struct __user_cap_data_struct sets[2];
  if (syscall(SYS_capget, &header, sets) != 0) return -1;
  const uint32_t dropped = 1U << CAP_SYS_TIME | 1U << CAP_SYS_BOOT;
  sets[0].effective &= ~dropped;
  sets[0].permitted &= ~dropped;
  return (int)syscall(SYS_capset, &header, sets);
}

static int listen_at(const char *path) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  if (strlen(path) >= sizeof address.sun_path) return -1;
  strcpy(address.sun_path, path);
  int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (listener < 0 || bind(listener, (struct sockaddr *)&address, sizeof address) != 0) return -1;
  return listen(listener, SOMAXCONN) == 0 ? listener : -1;
}

int for_tests_main(int argc, char **argv) {
  if (drop_powers() != 0) {
    perror("capset");
    return 1;
  }
  if (argc == 3 && strcmp(argv[1], "--session") == 0) session_accept(atoi(argv[2]));
  bool is_port = argc == 3 && strcmp(argv[1], "--port") == 0;
  if (!is_port && (argc != 3 || strcmp(argv[1], "--listen") != 0)) {
    fputs("usage: agent-for-tests --session FD | --port SOCKET | --listen SOCKET\n", stderr);
    return 2;
  }
  int listener = listen_at(argv[2]);
  if (listener >= 0 && !is_port) server_listen(listener);
  int port = listener < 0 ? -1 : accept4(listener, NULL, NULL, SOCK_CLOEXEC);
  if (port >= 0) server_serve_port(port);
  perror(argv[2]);
  return 1;
}

#else
/* ISO C wants something in every file. */
typedef int nothing_for_tests;
#endif
