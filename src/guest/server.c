#include "server.h"

#include <unistd.h>

_Noreturn void server_main(void) {
  for (;;) pause();
}
