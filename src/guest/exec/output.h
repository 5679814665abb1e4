/* One stream of the command's output. */
#ifndef BANGER_OUTPUT_H
#define BANGER_OUTPUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "session/channel.h"

struct output {
  /* -1 after its end. */
  int fd;
  uint8_t type;
  /* After the command's end: how much of what it had written is still to be read. */
  size_t owed;
};

/* Whether more may be read now: always once nobody is left to read it. */
bool output_wants_bytes(const struct output *output, struct channel *channel);
/* Reads once, into a frame, or to nowhere if the channel is gone. */
void output_read(struct output *output, struct channel *channel);
/* Notes what the command has left behind. */
void output_note_owed(struct output *output);
void output_close(struct output *output);

#endif
