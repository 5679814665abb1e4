#include "exec/input.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "exec/terminal.h"

enum { CREDIT_BYTES = LIMIT_STDIN_WINDOW_BYTES / 4 };

void input_open(struct input *input, int fd, bool is_terminal) {
  input->fd = fd;
  input->is_terminal = is_terminal;
  input->is_ended = false;
  input->start = input->held = input->uncredited = 0;
}

const char *input_take(struct input *input, const uint8_t *bytes, size_t length) {
  if (input->is_ended) return "stdin after its end";
  if (length > sizeof input->bytes - input->held - input->uncredited) return "stdin beyond its window";
  if (input->fd < 0) {
    input->uncredited += length;
    return NULL;
  }
  size_t end = (input->start + input->held) % sizeof input->bytes;
  size_t first = sizeof input->bytes - end < length ? sizeof input->bytes - end : length;
  memcpy(input->bytes + end, bytes, first);
  memcpy(input->bytes, bytes + first, length - first);
  input->held += length;
  return NULL;
}

const char *input_end(struct input *input) {
  if (input->is_ended) return "stdin ends twice";
  input->is_ended = true;
  input_write(input);
  return NULL;
}

bool input_has_bytes(const struct input *input) {
  return input->fd >= 0 && input->held > 0;
}

void input_close(struct input *input) {
  if (input->fd >= 0) close(input->fd);
  input->fd = -1;
  input->uncredited += input->held;
  input->held = 0;
}

static void forget(struct input *input, size_t length) {
  input->start = (input->start + length) % sizeof input->bytes;
  input->held -= length;
  input->uncredited += length;
}

/* A terminal has no end of input but the character that its user would type. */
static void end_terminal(struct input *input) {
  char end = terminal_end_character(input->fd);
  if (end && write(input->fd, &end, 1) < 0) errno = 0;
}

void input_write(struct input *input) {
  while (input_has_bytes(input)) {
    size_t room = sizeof input->bytes - input->start;
    ssize_t put = write(input->fd, input->bytes + input->start, input->held < room ? input->held : room);
    if (put > 0) forget(input, (size_t)put);
    else if (put < 0 && errno == EINTR) continue;
    else if (put < 0 && errno == EAGAIN) return;
    else input_close(input);
  }
  if (!input->is_ended || input->fd < 0) return;
  if (input->is_terminal) end_terminal(input);
  input_close(input);
}

void input_credit(struct input *input, struct channel *channel) {
  bool is_worth_it = input->uncredited >= CREDIT_BYTES || (input->uncredited > 0 && input->held == 0);
  if (!is_worth_it || channel->broken || !channel_has_room(channel)) return;
  struct frame_credit credit = {.bytes = (uint32_t)input->uncredited};
  channel_put(channel, FRAME_CREDIT, &credit, sizeof credit, NULL, 0);
  input->uncredited = 0;
}
