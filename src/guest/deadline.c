#include "deadline.h"

#include <limits.h>
#include <time.h>

int64_t now_us(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

int64_t now_ms(void) {
  return now_us() / 1000;
}

int until_ms(int64_t deadline_ms) {
  if (deadline_ms == NEVER) return -1;
  int64_t left = deadline_ms - now_ms();
  return left <= 0 ? 0 : left > INT_MAX ? INT_MAX : (int)left;
}
