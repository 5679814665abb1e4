/* The guest agent: the guest's first process, and the host's voice in it. */
#include <stdio.h>
#include <unistd.h>

#include "boot.h"
#include "for-tests.h"
#include "server.h"

int main(int argc, char **argv) {
#ifdef BANGER_FOR_TESTS
  return for_tests_main(argc, argv);
#endif
  (void)argc, (void)argv;
  if (getpid() == 1) return boot_main();
  fputs("banger-agent: runs as a guest's first process\n", stderr);
  return 2;
}
