#include "session/session.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "answers/answers.h"
#include "deadline.h"
#include "exec/run.h"

/* The host sends these at once. A session without them is of a host that was stopped, or isn't banger's. */
enum { HELLO_WITHIN_MS = 10000, REQUEST_WITHIN_MS = 60000 };
/* How long the host may take to close a connection after the last word. */
enum { CLOSE_WITHIN_MS = 10000 };

static struct session session;
static struct request request;

/* The last whole hello among what was not taken, since an earlier one's host gave up, and the beginning of another. */
static size_t find_returned(const struct channel *channel, uint8_t found[RETURNED_BYTES]) {
  const uint8_t *bytes = channel->in + channel->in_start;
  size_t left = channel->in_end - channel->in_start, length = 1;
  struct hello hello = {0};
  found[0] = 0;
  while (left > 0) {
    size_t taken = hello_take(&hello, bytes, left);
    bytes += taken;
    left -= taken;
    if (!hello_is_whole(&hello)) break;
    memcpy(found + 1, hello.bytes, HELLO_BYTES);
    length = 1 + HELLO_BYTES;
    hello.held = 0;
  }
  memcpy(found + length, hello.bytes, hello.held);
  return length + hello.held;
}

void session_release(struct session *of) {
  if (of->channel.fd >= 0) close(of->channel.fd);
  of->channel.fd = -1;
  of->channel.broken = true;
  if (of->returned < 0) return;
  uint8_t found[RETURNED_BYTES];
  size_t length = find_returned(&of->channel, found);
  /* Fits into the pipe at once. If the server is gone, nobody wants it. */
  if (write(of->returned, found, length) < 0) errno = 0;
  close(of->returned);
  of->returned = -1;
}

/*
 * Lets the host close a connection: closed while its bytes are under way, it would break, and the last word might be lost. A
 * port isn't closed, and what comes there is for the next session.
 */
static void await_close(const struct session *of) {
  static uint8_t nowhere[LIMIT_PAYLOAD_BYTES];
  int64_t deadline = now_ms() + CLOSE_WITHIN_MS;
  struct pollfd wait = {.fd = of->channel.fd, .events = POLLIN};
  if (of->returned >= 0 || of->channel.broken || shutdown(of->channel.fd, SHUT_WR) != 0) return;
  while (poll(&wait, 1, until_ms(deadline)) > 0)
    if (read(of->channel.fd, nowhere, sizeof nowhere) <= 0) return;
}

_Noreturn void session_end(struct session *of) {
  channel_drain(&of->channel);
  await_close(of);
  session_release(of);
  _exit(0);
}

_Noreturn void session_refuse(struct session *of, const char *why) {
  channel_put_error(&of->channel, AGENT_ERROR_PROTOCOL, 0, why);
  session_end(of);
}

static bool describes_exec(uint8_t type) {
  return type == FRAME_ARGUMENT || type == FRAME_VARIABLE || type == FRAME_DIRECTORY || type == FRAME_USER;
}

static void serve_exec(const struct frame *frame) {
  memcpy(&request.exec, frame->payload, sizeof request.exec);
  const char *wrong = request_check(&request);
  if (wrong) session_refuse(&session, wrong);
  exec_run(&session, &request);
}

static void take_frame(const struct frame *frame) {
  if (describes_exec(frame->type)) {
    const char *wrong = request_take(&request, frame);
    if (wrong) session_refuse(&session, wrong);
    return;
  }
  if (frame->type == FRAME_EXEC) serve_exec(frame);
  if (request_has_begun(&request)) session_refuse(&session, "only exec takes arguments");
  answer_request(&session, frame);
  session_refuse(&session, "there is no running command");
}

/* Waits until more was read. Ends the session if the channel breaks or the deadline comes. */
static void wait_for_bytes(int64_t deadline) {
  struct pollfd wait = {.fd = session.channel.fd, .events = POLLIN};
  channel_drain(&session.channel);
  if (poll(&wait, 1, until_ms(deadline)) == 0) session.channel.broken = true;
  else channel_fill(&session.channel);
  if (session.channel.broken) session_end(&session);
}

static _Noreturn void serve_request(void) {
  int64_t deadline = now_ms() + REQUEST_WITHIN_MS;
  for (;;) {
    struct frame frame;
    switch (channel_next(&session.channel, &frame)) {
      case FRAME_FOUND_WHOLE:
        take_frame(&frame);
        break;
      case FRAME_FOUND_REFUSED:
        session_refuse(&session, "unknown frame");
      case FRAME_FOUND_NONE:
        if (session.channel.broken) session_end(&session);
        wait_for_bytes(deadline);
    }
  }
}

/* Standard descriptors that belong to nobody: those of the command are others. */
static void take_standard_descriptors(void) {
  int fd;
  do fd = open("/dev/null", O_RDWR);
  while (fd >= 0 && fd < 3);
  if (fd >= 0) close(fd);
}

_Noreturn void session_run(int fd, const struct hello *hello, const uint8_t *bytes, size_t length, int returned) {
  uint8_t answer[ANSWER_BYTES];
  signal(SIGPIPE, SIG_IGN);
  take_standard_descriptors();
  session.returned = returned;
  channel_open(&session.channel, fd, bytes, length);
  hello_answer(hello, answer);
  channel_put_raw(&session.channel, answer, sizeof answer);
  if (hello_version(hello) != AGENT_PROTOCOL) session_end(&session);
  serve_request();
}

_Noreturn void session_accept(int fd) {
  static uint8_t bytes[4096];
  struct hello hello = {0};
  int64_t deadline = now_ms() + HELLO_WITHIN_MS;
  for (;;) {
    struct pollfd wait = {.fd = fd, .events = POLLIN};
    if (poll(&wait, 1, until_ms(deadline)) <= 0) _exit(0);
    ssize_t got = read(fd, bytes, sizeof bytes);
    if (got <= 0) _exit(0);
    size_t taken = hello_take(&hello, bytes, (size_t)got);
    if (hello_is_whole(&hello)) session_run(fd, &hello, bytes + taken, (size_t)got - taken, -1);
  }
}
