/* The command's input: what the host sent, until the command takes it. */
#ifndef BANGER_INPUT_H
#define BANGER_INPUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "session/channel.h"

struct input {
  /* -1: nobody reads it any more. */
  int fd;
  bool is_terminal, is_ended;
  size_t start, held;
  /* Taken by the command, and not yet told to the host. */
  size_t uncredited;
  uint8_t bytes[LIMIT_STDIN_WINDOW_BYTES];
};

void input_open(struct input *input, int fd, bool is_terminal);
/* Takes a `stdin` frame. Returns NULL, or how the host broke the protocol. */
const char *input_take(struct input *input, const uint8_t *bytes, size_t length);
/* Takes a `stdinEnd`. */
const char *input_end(struct input *input);
bool input_has_bytes(const struct input *input);
/* Writes what the command takes, and ends its input where the host did. */
void input_write(struct input *input);
/* Tells the host how much was taken, if it is worth a frame. */
void input_credit(struct input *input, struct channel *channel);
/* Ends the input, with what is left of it. */
void input_close(struct input *input);

#endif
