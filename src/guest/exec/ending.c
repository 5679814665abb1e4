#include "exec/ending.h"

#include <signal.h>

#include "deadline.h"

enum {
  /* How long after a broken channel's HUP. */
  TERM_AFTER_MS = 1000,
  KILL_AFTER_MS = 10000,
  /* How long after KILL. What lives on then is stuck in the kernel. */
  GIVE_UP_AFTER_MS = 5000,
};

void ending_begin(struct ending *ending, uint32_t timeout_ms, uint32_t kill_after_ms) {
  *ending = (struct ending){.timeout_at = NEVER, .term_at = NEVER, .kill_at = NEVER, .give_up_at = NEVER};
  if (timeout_ms > 0) ending->timeout_at = now_ms() + timeout_ms;
  ending->kill_after_ms = kill_after_ms;
}

/* What is stopped only notices a signal once it goes on. */
static void signal_awake(const struct exec_group *group, int number) {
  group_signal(group, number);
  group_signal(group, SIGCONT);
}

void ending_hang_up(struct ending *ending, const struct exec_group *group) {
  int64_t kill_at = now_ms() + KILL_AFTER_MS;
  ending->term_at = now_ms() + TERM_AFTER_MS;
  if (kill_at < ending->kill_at) ending->kill_at = kill_at;
  signal_awake(group, SIGHUP);
}

void ending_act(struct ending *ending, const struct exec_group *group) {
  int64_t now = now_ms();
  if (now >= ending->timeout_at) {
    int64_t kill_at = now + ending->kill_after_ms;
    ending->timeout_at = NEVER;
    ending->is_timed_out = true;
    if (kill_at < ending->kill_at) ending->kill_at = kill_at;
    signal_awake(group, SIGTERM);
  }
  if (now >= ending->term_at) {
    ending->term_at = NEVER;
    signal_awake(group, SIGTERM);
  }
  if (now >= ending->kill_at) {
    ending->kill_at = ending->term_at = NEVER;
    ending->give_up_at = now + GIVE_UP_AFTER_MS;
    group_signal(group, SIGKILL);
  }
  if (now >= ending->give_up_at) {
    ending->give_up_at = NEVER;
    ending->is_given_up = true;
  }
}

static int64_t earlier(int64_t a, int64_t b) {
  return a < b ? a : b;
}

int64_t ending_next(const struct ending *ending) {
  return earlier(earlier(ending->timeout_at, ending->term_at), earlier(ending->kill_at, ending->give_up_at));
}
