/* Files as the boot uses them. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "boot/parts.h"

enum { POLL_MS = 20, POLLS = 10000 / POLL_MS, DEEPEST = 64 };

bool wait_a_little(int *tries) {
  if ((*tries)++ >= POLLS) return false;
  struct timespec pause = {.tv_nsec = POLL_MS * 1000000L};
  nanosleep(&pause, NULL);
  return true;
}

int make_directories(const char *path, mode_t mode) {
  char part[PATH_MAX];
  if (strlen(path) >= sizeof part) {
    errno = ENAMETOOLONG;
    return -1;
  }
  strcpy(part, path);
  for (char *slash = strchr(part + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
    *slash = '\0';
    if (mkdir(part, mode) == -1 && errno != EEXIST) return -1;
    *slash = '/';
  }
  return mkdir(part, mode) == -1 && errno != EEXIST ? -1 : 0;
}

int write_file(const char *path, const char *text) {
  int file = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_NONBLOCK | O_NOCTTY | O_CLOEXEC, 0644);
  if (file == -1) return -1;
  size_t length = strlen(text);
  ssize_t written = write(file, text, length);
  int failure = written == -1 ? errno : (size_t)written < length ? ENOSPC : 0;
  close(file);
  errno = failure;
  return failure == 0 ? 0 : -1;
}

ssize_t read_start(const char *path, char *buffer, size_t size) {
  int file = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
  if (file == -1) return -1;
  struct stat status;
  size_t used = 0;
  ssize_t got = -1;
  if (fstat(file, &status) == 0) {
    if (!S_ISREG(status.st_mode)) {
      errno = EINVAL;
    } else {
      while (used < size - 1 && (got = read(file, buffer + used, size - 1 - used)) > 0) used += (size_t)got;
    }
  }
  int failure = errno;
  close(file);
  errno = failure;
  buffer[used] = '\0';
  return got == -1 ? -1 : (ssize_t)used;
}

static void remove_below(int directory, dev_t device, int depth) {
  DIR *entries = depth > DEEPEST ? NULL : fdopendir(directory);
  if (!entries) {
    close(directory);
    return;
  }
  struct dirent *entry;
  while ((entry = readdir(entries))) {
    const char *name = entry->d_name;
    struct stat status;
    if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0) continue;
    if (fstatat(directory, name, &status, AT_SYMLINK_NOFOLLOW) == -1 || status.st_dev != device) continue;
    if (S_ISDIR(status.st_mode)) {
      int below = openat(directory, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
      if (below != -1) remove_below(below, device, depth + 1);
    }
    unlinkat(directory, name, S_ISDIR(status.st_mode) ? AT_REMOVEDIR : 0);
  }
  closedir(entries);
}

void remove_contents(int directory) {
  struct stat status;
  if (fstat(directory, &status) == 0)
    remove_below(directory, status.st_dev, 0);
  else
    close(directory);
}
