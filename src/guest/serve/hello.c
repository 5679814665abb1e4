#include "serve/hello.h"

#include <string.h>

/* Every later byte of the magic differs from its first one, so a mismatch can only begin anew with the byte itself. */
static void take_byte(struct hello *hello, uint8_t byte) {
  static const uint8_t magic[] = HELLO_MAGIC;
  if (hello->held < MAGIC_BYTES && byte != magic[hello->held]) hello->held = 0;
  if (hello->held == 0 && byte != magic[0]) return;
  hello->bytes[hello->held++] = byte;
}

size_t hello_take(struct hello *hello, const uint8_t *bytes, size_t length) {
  size_t taken = 0;
  while (taken < length && !hello_is_whole(hello)) take_byte(hello, bytes[taken++]);
  return taken;
}

bool hello_is_whole(const struct hello *hello) {
  return hello->held == HELLO_BYTES;
}

const uint8_t *hello_nonce(const struct hello *hello) {
  return hello->bytes + MAGIC_BYTES;
}

uint32_t hello_version(const struct hello *hello) {
  uint32_t version;
  memcpy(&version, hello->bytes + MAGIC_BYTES + NONCE_BYTES, sizeof version);
  return version;
}

void hello_answer(const struct hello *hello, uint8_t answer[ANSWER_BYTES]) {
  const uint32_t version = AGENT_PROTOCOL;
  memcpy(answer, ANSWER_MAGIC, MAGIC_BYTES);
  memcpy(answer + MAGIC_BYTES, hello_nonce(hello), NONCE_BYTES);
  memcpy(answer + MAGIC_BYTES + NONCE_BYTES, &version, sizeof version);
}
