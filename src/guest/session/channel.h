/* The session's side of a channel: whole frames in, whole frames out, two buffers of fixed size. Nothing here blocks. */
#ifndef BANGER_CHANNEL_H
#define BANGER_CHANNEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "protocol.h"

enum {
  CHANNEL_IN_BYTES = 2 * (HEADER_BYTES + LIMIT_PAYLOAD_BYTES),
  CHANNEL_OUT_BYTES = 4 * (HEADER_BYTES + LIMIT_PAYLOAD_BYTES),
  /* Kept free of output, so that the last word and a credit always fit. */
  CHANNEL_RESERVE_BYTES = 4096,
};

struct channel {
  int fd;
  /* The other side is gone, or has begun anew. */
  bool broken;
  size_t in_start, in_end, out_start, out_end;
  uint8_t in[CHANNEL_IN_BYTES];
  uint8_t out[CHANNEL_OUT_BYTES];
};

struct frame {
  uint8_t type;
  uint32_t length;
  /* Valid until the next channel_fill. */
  const uint8_t *payload;
};

enum frame_found {
  FRAME_FOUND_NONE,
  FRAME_FOUND_WHOLE,
  /* A type that doesn't exist, or a length that the type can't have. */
  FRAME_FOUND_REFUSED,
};

/* Begins with bytes that were read before: at most CHANNEL_IN_BYTES. The descriptor is made non-blocking. */
void channel_open(struct channel *channel, int fd, const uint8_t *bytes, size_t length);
/* Reads once, if there is room. */
void channel_fill(struct channel *channel);
/* Takes the next whole frame out of what was read. Type 0 marks the channel broken. */
enum frame_found channel_next(struct channel *channel, struct frame *frame);
/* Writes as much as the channel takes. */
void channel_flush(struct channel *channel);
/* Flushes until nothing is left or the channel is broken. Waits as long as the other side does. */
void channel_drain(struct channel *channel);

/* Adds bytes that aren't a frame: the answer to a hello, before anything else. */
void channel_put_raw(struct channel *channel, const uint8_t *bytes, size_t length);
/* Whether a small frame fits without taking the last word's place. */
bool channel_has_room(struct channel *channel);
/* Adds a frame of the session's own. These are few and small: the reserve always holds them. */
void channel_put(struct channel *channel, uint8_t type, const void *fields, size_t fields_bytes, const void *bytes,
                 size_t length);
/* Adds an `error`. Bytes that aren't UTF-8 are replaced. */
void channel_put_error(struct channel *channel, uint16_t code, int error_number, const char *text);

/*
 * Room for output: where it may be written, and how many bytes of it. 0 if the other side is too slow. channel_commit then
 * makes a frame of what was written there.
 */
size_t channel_room(struct channel *channel, uint8_t **into);
void channel_commit(struct channel *channel, uint8_t type, size_t length);

#endif
