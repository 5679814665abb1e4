#include "exec/output.h"

#include <errno.h>
#include <sys/ioctl.h>
#include <unistd.h>

bool output_wants_bytes(const struct output *output, struct channel *channel) {
  uint8_t *into;
  return output->fd >= 0 && (channel->broken || channel_room(channel, &into) > 0);
}

void output_read(struct output *output, struct channel *channel) {
  static uint8_t nowhere[LIMIT_PAYLOAD_BYTES];
  uint8_t *into = nowhere;
  size_t room = channel->broken ? sizeof nowhere : channel_room(channel, &into);
  if (output->fd < 0 || room == 0) return;
  ssize_t got = read(output->fd, into, room);
  if (got > 0) {
    if (!channel->broken) channel_commit(channel, output->type, (size_t)got);
    output->owed -= output->owed < (size_t)got ? output->owed : (size_t)got;
  } else if (got < 0 && errno == EAGAIN) {
    output->owed = 0;
  } else if (got == 0 || errno != EINTR) {
    /* A terminal that nobody holds any more says EIO. */
    output_close(output);
  }
}

void output_note_owed(struct output *output) {
  int bytes = 0;
  if (output->fd >= 0 && ioctl(output->fd, FIONREAD, &bytes) == 0 && bytes > 0) output->owed = (size_t)bytes;
}

void output_close(struct output *output) {
  if (output->fd >= 0) close(output->fd);
  output->fd = -1;
  output->owed = 0;
}
