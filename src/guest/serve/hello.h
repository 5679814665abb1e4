/* Finding the host's hello in a stream of anything. */
#ifndef BANGER_HELLO_H
#define BANGER_HELLO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "protocol.h"

enum { HELLO_BYTES = MAGIC_BYTES + NONCE_BYTES + 4 };

/* A hello, or its beginning. All zero at first. */
struct hello {
  uint8_t bytes[HELLO_BYTES];
  size_t held;
};

/* Takes bytes up to the end of a hello, and returns how many. The hello is whole if `held` is then HELLO_BYTES. */
size_t hello_take(struct hello *hello, const uint8_t *bytes, size_t length);
bool hello_is_whole(const struct hello *hello);
const uint8_t *hello_nonce(const struct hello *hello);
uint32_t hello_version(const struct hello *hello);

/* The agent's answer to a hello. */
enum { ANSWER_BYTES = HELLO_BYTES };
void hello_answer(const struct hello *hello, uint8_t answer[ANSWER_BYTES]);

#endif
