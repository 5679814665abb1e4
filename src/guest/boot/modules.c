/* The drivers of a microVM, which banger's initrd holds in the order of their names. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "boot/parts.h"

static int is_module(const struct dirent *entry) {
  const char *dot = strrchr(entry->d_name, '.');
  return dot && strcmp(dot, ".ko") == 0;
}

static int by_name(const struct dirent **a, const struct dirent **b) {
  return strcmp((*a)->d_name, (*b)->d_name);
}

void load_modules(void) {
  struct dirent **names;
  int count = scandir("/modules", &names, is_module, by_name);
  for (int at = 0; at < count; at++) {
    char path[sizeof "/modules/" + NAME_MAX];
    snprintf(path, sizeof path, "/modules/%s", names[at]->d_name);
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file == -1 || (syscall(SYS_finit_module, file, "", 0) == -1 && errno != EEXIST))
      say("%s can't be loaded: %s", path, strerror(errno));
    if (file != -1) close(file);
    free(names[at]);
  }
  if (count >= 0) free(names);
}
