/* What the host wants run, assembled from its frames. */
#ifndef BANGER_REQUEST_H
#define BANGER_REQUEST_H

#include <stdbool.h>
#include <stddef.h>

#include "protocol.h"
#include "session/channel.h"

/* Its areas are as large as the protocol allows, whatever the host says; memory is taken only where bytes arrive. */
struct request {
  struct frame_exec exec;
  size_t arguments_bytes, variables_bytes, directory_bytes, user_bytes;
  char arguments[LIMIT_ARGUMENTS_BYTES];
  char variables[LIMIT_VARIABLES_BYTES];
  /* Ended by a NUL. Empty: not given. */
  char directory[LIMIT_DIRECTORY_BYTES + 1];
  char user[LIMIT_USER_BYTES + 1];
};

/* Takes a frame that describes an exec. Returns NULL, or how the host broke the protocol. */
const char *request_take(struct request *request, const struct frame *frame);
/* Whether any such frame was taken. */
bool request_has_begun(const struct request *request);
/* Checks the whole of it. Returns NULL, or how the host broke the protocol. */
const char *request_check(const struct request *request);

/* The text after this one in an area of texts that each end with a NUL, or NULL at the end. Begins with NULL. */
char *next_text(char *area, size_t bytes, char *text);

#endif
