/* `waitReady`: the waiting is a child's, so that the session sees its channel break meanwhile. */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "answers/answers.h"
#include "lines.h"
#include "ready.h"

/* What wait_ready returned; the errno counts if that is negative. */
struct outcome {
  int flags, error_number;
};

/* Starts the waiting. Returns where its outcome will come from, or -1 with errno. */
static int start_waiting(pid_t *pid) {
  int ends[2];
  if (pipe2(ends, 0) != 0) return -1;
  *pid = fork();
  if (*pid == 0) {
    /* It holds the session's descriptors: whoever kills the session ends it too. */
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    struct outcome outcome = {.flags = wait_ready()};
    outcome.error_number = errno;
    _exit(write(ends[1], &outcome, sizeof outcome) == (ssize_t)sizeof outcome ? 0 : 1);
  }
  int why = errno;
  close(ends[1]);
  if (*pid > 0) return ends[0];
  close(ends[0]);
  errno = why;
  return -1;
}

/* The host says nothing while it waits: whatever comes is a new beginning, or the end. */
static void wait_for_either(struct session *session, int outcome) {
  struct pollfd at[] = {{.fd = outcome, .events = POLLIN}, {.fd = session->channel.fd, .events = POLLIN}};
  while (!session->channel.broken) {
    struct frame frame;
    if (channel_next(&session->channel, &frame) != FRAME_FOUND_NONE)
      session_refuse(session, "nothing may follow waitReady");
    if (session->channel.broken || poll(at, 2, -1) < 0) continue;
    if (at[0].revents) return;
    channel_fill(&session->channel);
  }
}

/* Waits until commands can run. False, with errno, if that failed. */
static bool wait_in_child(struct session *session, uint32_t *flags) {
  struct outcome outcome = {.flags = -1, .error_number = ECHILD};
  pid_t pid = -1;
  int from = start_waiting(&pid);
  if (from < 0) return false;
  wait_for_either(session, from);
  /* Nothing to read: its process was killed. */
  if (session->channel.broken || read(from, &outcome, sizeof outcome) != (ssize_t)sizeof outcome) outcome.flags = -1;
  kill(pid, SIGKILL);
  close(from);
  *flags = (uint32_t)outcome.flags;
  errno = outcome.error_number;
  return outcome.flags >= 0;
}

_Noreturn void answer_ready(struct session *session) {
  struct frame_ready ready;
  char boot_id[64], text[128];
  channel_drain(&session->channel);
  uint32_t flags = 0;
  bool is_ready = wait_in_child(session, &flags) && read_text("/proc/sys/kernel/random/boot_id", boot_id, sizeof boot_id);
  int why = errno;
  ready.flags = flags;
  if (is_ready) {
    channel_put(&session->channel, FRAME_READY, &ready, sizeof ready, boot_id, strlen(boot_id));
  } else {
    snprintf(text, sizeof text, "the boot isn't done: %s", strerror(why));
    channel_put_error(&session->channel, AGENT_ERROR_SYSTEM, why, text);
  }
  session_end(session);
}
