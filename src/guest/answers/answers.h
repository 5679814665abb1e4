/* The short requests: those that run no command. */
#ifndef BANGER_ANSWERS_H
#define BANGER_ANSWERS_H

#include "session/session.h"

/* Answers a request and ends the session. Returns if the frame isn't such a request. */
void answer_request(struct session *session, const struct frame *frame);

/* The rest is for answers.c. Each returns NULL, or the system call that failed, with errno. */
const char *set_clock(const struct frame_clock *clock);
const char *order_power(uint8_t kind);
const char *read_usage(struct frame_counters *counters);
const char *put_listeners(struct channel *channel);
_Noreturn void answer_ready(struct session *session);

#endif
