/* Bringing an exec to its end, gently first: deadlines that the loop in run.c waits for. */
#ifndef BANGER_ENDING_H
#define BANGER_ENDING_H

#include <stdbool.h>
#include <stdint.h>

#include "exec/group.h"

struct ending {
  /* In milliseconds, or NEVER. */
  int64_t timeout_at, term_at, kill_at, give_up_at;
  uint32_t kill_after_ms;
  bool is_timed_out, is_given_up;
};

/* `timeout_ms` 0: never. */
void ending_begin(struct ending *ending, uint32_t timeout_ms, uint32_t kill_after_ms);
/* The host is gone: HUP now, TERM and KILL later. */
void ending_hang_up(struct ending *ending, const struct exec_group *group);
/* Does what is due. */
void ending_act(struct ending *ending, const struct exec_group *group);
int64_t ending_next(const struct ending *ending);

#endif
