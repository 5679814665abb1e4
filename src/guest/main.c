/* The guest agent: the guest's first process, and the host's voice in it. */
#include <stdio.h>
#include <unistd.h>

#include "boot.h"
#include "for-tests.h"
#include "server.h"

int main(int argc, char **argv) {
  program_name = argv[0];
  if (getpid() == 1 && boot_main) return boot_main();
#ifdef BANGER_FOR_TESTS
  return for_tests_main(argc, argv);
#endif
  (void)argc;
  fputs("banger-agent: runs as a guest's first process\n", stderr);
  return 2;
}
