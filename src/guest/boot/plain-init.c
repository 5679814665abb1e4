/*
 * The init of a guest whose image has none: reaps, and ends the guest when asked, by systemd's signals, busybox's, or the kernel's
 * ctrl-alt-del. Sources: systemd(1) "Signals", busybox's init/init.c, reboot(2).
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "boot/parts.h"

enum { END_SECONDS = 5, SENDER_MS = 1000 };

static void reap(void) {
  while (waitpid(-1, NULL, WNOHANG) > 0) continue;
}

static bool has_children(void) {
  siginfo_t info;
  return waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) == 0;
}

/* Waits for the end of all processes, for a while. They are all children of the first one, sooner or later. */
static void wait_for_end(void) {
  sigset_t child;
  sigemptyset(&child);
  sigaddset(&child, SIGCHLD);
  struct timespec now, until;
  clock_gettime(CLOCK_MONOTONIC, &until);
  until.tv_sec += END_SECONDS;
  for (;;) {
    reap();
    if (!has_children()) return;
    clock_gettime(CLOCK_MONOTONIC, &now);
    if (now.tv_sec >= until.tv_sec) return;
    struct timespec left = {.tv_sec = until.tv_sec - now.tv_sec};
    sigtimedwait(&child, NULL, &left);
  }
}

/* Whoever asks may have a last word to say: the agent's session answers the host. */
static void wait_for_sender(pid_t sender) {
  int process = sender > 1 ? (int)syscall(SYS_pidfd_open, sender, 0) : -1;
  if (process == -1) return;
  struct pollfd end = {.fd = process, .events = POLLIN};
  poll(&end, 1, SENDER_MS);
  close(process);
}

static _Noreturn void end_guest(pid_t sender, int how) {
  wait_for_sender(sender);
  kill(-1, SIGTERM);
  kill(-1, SIGCONT);
  wait_for_end();
  kill(-1, SIGKILL);
  wait_for_end();
  sync();
  if (boot_result.work_disk && umount2("/root", 0) == -1) say("/root can't be unmounted: %s", strerror(errno));
  if (mount(NULL, "/", NULL, MS_REMOUNT | MS_RDONLY, NULL) == -1) say("/ can't be made read-only: %s", strerror(errno));
  sync();
  reboot(how);
  for (;;) pause();
}

_Noreturn void run_plain_init(void) {
  sigset_t all;
  sigfillset(&all);
  sigprocmask(SIG_BLOCK, &all, NULL);
  reboot(RB_DISABLE_CAD);
  for (;;) {
    siginfo_t from;
    int number = sigwaitinfo(&all, &from);
    if (number == SIGCHLD) reap();
    if (number == SIGRTMIN + 4 || number == SIGUSR2 || number == SIGPWR) end_guest(from.si_pid, RB_POWER_OFF);
    if (number == SIGRTMIN + 5 || number == SIGTERM || number == SIGINT) end_guest(from.si_pid, RB_AUTOBOOT);
  }
}
