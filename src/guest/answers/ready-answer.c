/* `waitReady`: the waiting is a child's, so that the session sees its channel break meanwhile. */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include "answers/answers.h"
#include "lines.h"
#include "ready.h"

/* Starts the waiting. Returns where its result will come from, or -1. */
static int start_waiting(pid_t *pid) {
  int ends[2];
  if (pipe(ends) != 0) return -1;
  *pid = fork();
  if (*pid == 0) {
    uint32_t flags = (uint32_t)wait_ready();
    _exit(write(ends[1], &flags, sizeof flags) == (ssize_t)sizeof flags ? 0 : 1);
  }
  close(ends[1]);
  if (*pid > 0) return ends[0];
  close(ends[0]);
  return -1;
}

/* The host says nothing while it waits: whatever comes is a new beginning, or the end. */
static void wait_for_either(struct session *session, int result) {
  struct pollfd at[] = {{.fd = result, .events = POLLIN}, {.fd = session->channel.fd, .events = POLLIN}};
  while (!at[0].revents && !session->channel.broken) {
    struct frame frame;
    if (poll(at, 2, -1) < 0) continue;
    if (!at[1].revents) continue;
    channel_fill(&session->channel);
    if (channel_next(&session->channel, &frame) != FRAME_FOUND_NONE) session_refuse(session, "nothing may follow waitReady");
  }
}

_Noreturn void answer_ready(struct session *session) {
  struct frame_ready ready;
  char boot_id[64];
  pid_t pid = -1;
  channel_drain(&session->channel);
  int result = start_waiting(&pid);
  if (result >= 0) wait_for_either(session, result);
  bool is_ready = result >= 0 && !session->channel.broken &&
                  read(result, &ready.flags, sizeof ready.flags) == (ssize_t)sizeof ready.flags &&
                  read_text("/proc/sys/kernel/random/boot_id", boot_id, sizeof boot_id);
  if (pid > 0) kill(pid, SIGKILL);
  if (is_ready) channel_put(&session->channel, FRAME_READY, &ready, sizeof ready, boot_id, strlen(boot_id));
  else channel_put_error(&session->channel, AGENT_ERROR_SYSTEM, errno, "waiting for the boot failed");
  session_end(session);
}
