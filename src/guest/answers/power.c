/* Ending the guest, in the way of its init. */
#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/reboot.h>
#include <unistd.h>

#include "answers/answers.h"
#include "lines.h"

struct init {
  const char *name;
  int poweroff, reboot;
};

/* The signals that process 1 takes. The agent as init takes busybox's. Sources: systemd(1); busybox's init/init.c. */
static bool find_init(struct init *init) {
  char path[PATH_MAX], name[64];
  const struct init known[] = {
      {"systemd", SIGRTMIN + 4, SIGRTMIN + 5},
      {"busybox", SIGUSR2, SIGTERM},
      {"banger-agent", SIGUSR2, SIGTERM},
  };
  ssize_t length = readlink("/proc/1/exe", path, sizeof path - 1);
  path[length > 0 ? length : 0] = 0;
  const char *slash = strrchr(path, '/');
  const char *program = slash ? slash + 1 : path;
  if (!read_text("/proc/1/comm", name, sizeof name)) *name = 0;
  for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
    if (strcmp(known[i].name, program) != 0 && strcmp(known[i].name, name) != 0) continue;
    *init = known[i];
    return true;
  }
  return false;
}

/* Any other init has a program to speak to it. */
static bool run_program(const char *path) {
  if (access(path, X_OK) != 0) return false;
  pid_t pid = fork();
  if (pid == 0) {
    setsid();
    execl(path, path, (char *)NULL);
    _exit(127);
  }
  return pid > 0;
}

const char *order_power(uint8_t kind) {
  bool is_reboot = kind == POWER_REBOOT;
  struct init init;
#ifdef BANGER_FOR_TESTS
  /* Only a test in a process namespace of its own may end its first process. */
  if (!getenv("BANGER_TEST_POWER")) {
    errno = EPERM;
    return "power in a build for tests";
  }
#endif
  sync();
  if (find_init(&init)) return kill(1, is_reboot ? init.reboot : init.poweroff) == 0 ? NULL : "kill";
  if (run_program(is_reboot ? "/sbin/reboot" : "/sbin/poweroff")) return NULL;
  return reboot(is_reboot ? RB_AUTOBOOT : RB_POWER_OFF) == 0 ? NULL : "reboot";
}
