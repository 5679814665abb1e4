#include "answers/answers.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

const char *set_clock(const struct frame_clock *clock) {
  struct timespec time = {.tv_sec = (time_t)clock->seconds, .tv_nsec = clock->nanoseconds};
  return clock_settime(CLOCK_REALTIME, &time) == 0 ? NULL : "clock_settime";
}

/* The last word of a request that is done or not. */
static _Noreturn void finish(struct session *session, const char *failed) {
  int why = errno;
  char text[256];
  if (failed) {
    snprintf(text, sizeof text, "%s: %s", failed, strerror(why));
    channel_put_error(&session->channel, AGENT_ERROR_SYSTEM, why, text);
  } else {
    channel_put(&session->channel, FRAME_DONE, NULL, 0, NULL, 0);
  }
  session_end(session);
}

static _Noreturn void answer_clock(struct session *session, const struct frame *frame) {
  struct frame_clock clock;
  memcpy(&clock, frame->payload, sizeof clock);
  finish(session, set_clock(&clock));
}

static _Noreturn void answer_usage(struct session *session) {
  struct frame_counters counters;
  const char *failed = read_usage(&counters);
  if (!failed) channel_put(&session->channel, FRAME_COUNTERS, &counters, sizeof counters, NULL, 0);
  finish(session, failed);
}

static _Noreturn void answer_power(struct session *session, const struct frame *frame) {
  uint8_t kind = frame->payload[0];
  if (kind != POWER_POWEROFF && kind != POWER_REBOOT) session_refuse(session, "there is no such kind of power");
  finish(session, order_power(kind));
}

void answer_request(struct session *session, const struct frame *frame) {
  switch (frame->type) {
    case FRAME_WAIT_READY:
      answer_ready(session);
    case FRAME_CLOCK:
      answer_clock(session, frame);
    case FRAME_POWER:
      answer_power(session, frame);
    case FRAME_USAGE:
      answer_usage(session);
    case FRAME_LISTENERS:
      finish(session, put_listeners(&session->channel));
    default:
      return;
  }
}
