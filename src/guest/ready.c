#include "ready.h"

#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <sys/inotify.h>
#include <time.h>
#include <unistd.h>

#include "boot/parts.h"
#include "protocol.h"

enum { READY_SECONDS = 60 };

/* systemd's private socket: it takes orders. */
#define PARENT "/run"
#define DIRECTORY "/run/systemd"
#define SOCKET "/run/systemd/private"

static int left_ms(const struct timespec *until) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  long left = (until->tv_sec - now.tv_sec) * 1000 + (until->tv_nsec - now.tv_nsec) / 1000000;
  return left > 0 ? (int)left : 0;
}

/* Waits for any change in a directory that may bring the socket nearer. */
static bool wait_for_systemd(int changes) {
  struct timespec until;
  clock_gettime(CLOCK_MONOTONIC, &until);
  until.tv_sec += READY_SECONDS;
  for (;;) {
    /* Watched before it is looked at, so that no change falls in between. */
    if (inotify_add_watch(changes, DIRECTORY, IN_CREATE | IN_MOVED_TO) == -1 &&
        (errno != ENOENT || inotify_add_watch(changes, PARENT, IN_CREATE | IN_MOVED_TO) == -1))
      return false;
    if (access(SOCKET, F_OK) == 0) return true;
    /* Made between the two looks: watched from now on. */
    if (inotify_add_watch(changes, DIRECTORY, IN_CREATE | IN_MOVED_TO) != -1 && access(SOCKET, F_OK) == 0) return true;
    struct pollfd change = {.fd = changes, .events = POLLIN};
    int found = poll(&change, 1, left_ms(&until));
    if (found == 0) errno = ETIMEDOUT;
    if (found == 0 || (found == -1 && errno != EINTR)) return false;
    char events[4096];
    while (read(changes, events, sizeof events) > 0) continue;
  }
}

int wait_ready(void) {
  if (boot_result.init_is_systemd) {
    int changes = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    bool done = changes != -1 && wait_for_systemd(changes);
    int failure = errno;
    if (changes != -1) close(changes);
    errno = failure;
    if (!done) return -1;
  }
  return (boot_result.work_disk ? READY_FLAG_WORK_DISK : 0) | (boot_result.is_init ? READY_FLAG_IS_INIT : 0);
}
