#include "ready.h"

int wait_ready(void) {
  return 0;
}
