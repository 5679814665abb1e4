/* The guest agent: the guest's first process, and the host's voice in it. */
#include <stdio.h>
#include <unistd.h>

#include "boot.h"
#include "server.h"

int main(void) {
  if (getpid() == 1 && boot_main) return boot_main();
  fputs("banger-agent: runs as a guest's first process\n", stderr);
  return 2;
}
