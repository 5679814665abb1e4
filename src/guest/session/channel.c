#include "session/channel.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

/* Output of less than this isn't worth a frame. */
enum { OUTPUT_LEAST_BYTES = 4096 };

void channel_open(struct channel *channel, int fd, const uint8_t *bytes, size_t length) {
  channel->fd = fd;
  channel->broken = false;
  channel->in_start = channel->out_start = channel->out_end = 0;
  channel->in_end = length < sizeof channel->in ? length : sizeof channel->in;
  if (length > 0) memcpy(channel->in, bytes, channel->in_end);
  fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
}

static void move_to_front(uint8_t *buffer, size_t *start, size_t *end) {
  memmove(buffer, buffer + *start, *end - *start);
  *end -= *start;
  *start = 0;
}

void channel_fill(struct channel *channel) {
  if (channel->broken) return;
  if (channel->in_start == channel->in_end) channel->in_start = channel->in_end = 0;
  if (sizeof channel->in - channel->in_end < HEADER_BYTES + LIMIT_PAYLOAD_BYTES)
    move_to_front(channel->in, &channel->in_start, &channel->in_end);
  size_t room = sizeof channel->in - channel->in_end;
  if (room == 0) return;
  ssize_t got = read(channel->fd, channel->in + channel->in_end, room);
  if (got > 0) channel->in_end += (size_t)got;
  else if (got == 0 || (errno != EAGAIN && errno != EINTR)) channel->broken = true;
}

static const struct shape {
  uint8_t type;
  uint32_t fields_bytes;
  bool has_bytes;
} SHAPES[] = {
#define SHAPE(type, fields, bytes) {type, fields, bytes},
    FRAMES_TO_GUEST(SHAPE)
#undef SHAPE
};

/* Whether a frame to the guest may have this type and length. */
static bool is_allowed(uint8_t type, uint32_t length) {
  for (size_t i = 0; i < sizeof SHAPES / sizeof *SHAPES; i++) {
    if (SHAPES[i].type != type) continue;
    uint32_t most = SHAPES[i].has_bytes ? LIMIT_PAYLOAD_BYTES : SHAPES[i].fields_bytes;
    return length >= SHAPES[i].fields_bytes && length <= most;
  }
  return false;
}

enum frame_found channel_next(struct channel *channel, struct frame *frame) {
  size_t held = channel->in_end - channel->in_start;
  if (channel->broken || held < HEADER_BYTES) return FRAME_FOUND_NONE;
  const uint8_t *header = channel->in + channel->in_start;
  memcpy(&frame->length, header, sizeof frame->length);
  frame->type = header[4];
  if (frame->type == 0) {
    channel->broken = true;
    return FRAME_FOUND_NONE;
  }
  if (!is_allowed(frame->type, frame->length)) return FRAME_FOUND_REFUSED;
  if (held - HEADER_BYTES < frame->length) return FRAME_FOUND_NONE;
  frame->payload = header + HEADER_BYTES;
  channel->in_start += HEADER_BYTES + frame->length;
  return FRAME_FOUND_WHOLE;
}

void channel_flush(struct channel *channel) {
  while (!channel->broken && channel->out_start < channel->out_end) {
    ssize_t put = write(channel->fd, channel->out + channel->out_start, channel->out_end - channel->out_start);
    if (put > 0) channel->out_start += (size_t)put;
    else if (put < 0 && errno == EINTR) continue;
    else if (put < 0 && errno == EAGAIN) return;
    else channel->broken = true;
  }
  channel->out_start = channel->out_end = 0;
}

void channel_drain(struct channel *channel) {
  channel_flush(channel);
  while (!channel->broken && channel->out_start < channel->out_end) {
    struct pollfd wait = {.fd = channel->fd, .events = POLLOUT};
    if (poll(&wait, 1, -1) < 0 && errno != EINTR) return;
    if (wait.revents & (POLLHUP | POLLERR | POLLNVAL)) channel->broken = true;
    channel_flush(channel);
  }
}

static void make_room(struct channel *channel, size_t bytes) {
  if (sizeof channel->out - channel->out_end < bytes) move_to_front(channel->out, &channel->out_start, &channel->out_end);
}

static void put_header(struct channel *channel, uint8_t type, size_t length) {
  uint32_t length32 = (uint32_t)length;
  memcpy(channel->out + channel->out_end, &length32, sizeof length32);
  channel->out[channel->out_end + 4] = type;
}

void channel_put_raw(struct channel *channel, const uint8_t *bytes, size_t length) {
  make_room(channel, length);
  memcpy(channel->out + channel->out_end, bytes, length);
  channel->out_end += length;
}

bool channel_has_room(struct channel *channel) {
  make_room(channel, CHANNEL_RESERVE_BYTES);
  return sizeof channel->out - channel->out_end >= CHANNEL_RESERVE_BYTES / 2;
}

void channel_put(struct channel *channel, uint8_t type, const void *fields, size_t fields_bytes, const void *bytes,
                 size_t length) {
  size_t whole = HEADER_BYTES + fields_bytes + length;
  make_room(channel, whole);
  if (sizeof channel->out - channel->out_end < whole) {
    channel->broken = true;
    return;
  }
  put_header(channel, type, fields_bytes + length);
  if (fields_bytes > 0) memcpy(channel->out + channel->out_end + HEADER_BYTES, fields, fields_bytes);
  if (length > 0) memcpy(channel->out + channel->out_end + HEADER_BYTES + fields_bytes, bytes, length);
  channel->out_end += whole;
}

static size_t utf8_length(uint8_t first) {
  if (first < 0x80) return 1;
  if (first >= 0xc2 && first < 0xe0) return 2;
  if (first >= 0xe0 && first < 0xf0) return 3;
  return first >= 0xf0 && first < 0xf5 ? 4 : 0;
}

/* How many bytes the UTF-8 sequence that begins here has, or 0. Three and four may still be overlong: the host decodes them. */
static size_t utf8_sequence(const uint8_t *text, size_t left) {
  size_t bytes = utf8_length(text[0]);
  if (bytes == 0 || bytes > left) return 0;
  for (size_t i = 1; i < bytes; i++)
    if ((text[i] & 0xc0) != 0x80) return 0;
  return bytes;
}

/* Copies text, with a question mark for each byte that isn't printable UTF-8. Returns its length. */
static size_t copy_printable(char *into, size_t room, const char *text) {
  size_t length = strlen(text), from = 0, to = 0;
  while (from < length) {
    size_t bytes = utf8_sequence((const uint8_t *)text + from, length - from);
    bool is_printable = bytes > 1 || (bytes == 1 && (uint8_t)text[from] >= 0x20 && text[from] != 0x7f);
    if (bytes == 0) bytes = 1;
    if (to + bytes > room) break;
    if (is_printable) memcpy(into + to, text + from, bytes);
    else into[to] = '?';
    from += bytes;
    to += is_printable ? bytes : 1;
  }
  return to;
}

void channel_put_error(struct channel *channel, uint16_t code, int error_number, const char *text) {
  struct frame_error fields = {.code = code, .error_number = error_number};
  char printable[LIMIT_ERROR_BYTES];
  size_t length = copy_printable(printable, sizeof printable, text);
  channel_put(channel, FRAME_ERROR, &fields, sizeof fields, printable, length);
}

size_t channel_room(struct channel *channel, uint8_t **into) {
  make_room(channel, HEADER_BYTES + LIMIT_PAYLOAD_BYTES + CHANNEL_RESERVE_BYTES);
  size_t free_bytes = sizeof channel->out - channel->out_end;
  if (channel->broken || free_bytes < HEADER_BYTES + OUTPUT_LEAST_BYTES + CHANNEL_RESERVE_BYTES) return 0;
  size_t room = free_bytes - HEADER_BYTES - CHANNEL_RESERVE_BYTES;
  *into = channel->out + channel->out_end + HEADER_BYTES;
  return room < LIMIT_PAYLOAD_BYTES ? room : LIMIT_PAYLOAD_BYTES;
}

void channel_commit(struct channel *channel, uint8_t type, size_t length) {
  put_header(channel, type, length);
  channel->out_end += HEADER_BYTES + length;
}
