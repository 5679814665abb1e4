/* The identity disk: read-only, made by the host at each start, a tar archive whose first entry is named banger-identity. */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "boot/parts.h"

#define OWN "/run/banger"
static const char MARK[] = "banger-identity";

/* Opens the disk and writes its path; -1 where there is none yet. */
static int open_disk(char *path, size_t size) {
  DIR *disks = opendir("/sys/block");
  if (!disks) return -1;
  int found = -1;
  struct dirent *disk;
  while (found == -1 && (disk = readdir(disks))) {
    char setting[sizeof "/sys/block//ro" + NAME_MAX];
    char start[sizeof MARK] = "";
    if (strncmp(disk->d_name, "vd", 2) != 0) continue;
    snprintf(setting, sizeof setting, "/sys/block/%s/ro", disk->d_name);
    if (read_start(setting, start, sizeof start) < 1 || start[0] != '1') continue;
    snprintf(path, size, "/dev/%s", disk->d_name);
    found = open(path, O_RDONLY | O_CLOEXEC);
    if (found == -1) continue;
    if (pread(found, start, sizeof MARK - 1, 0) == sizeof MARK - 1 && memcmp(start, MARK, sizeof MARK - 1) == 0) continue;
    close(found);
    found = -1;
  }
  closedir(disks);
  return found;
}

bool set_identity(void) {
  char path[sizeof "/dev/" + NAME_MAX];
  int disk, tries = 0;
  while ((disk = open_disk(path, sizeof path)) == -1) {
    if (wait_a_little(&tries)) continue;
    say("there is no identity disk");
    return false;
  }
  int target = make_directories(OWN, 0755) == -1 ? -1 : open(OWN, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  bool done = target != -1 && untar(disk, target, TAR_OWN);
  if (target != -1) close(target);
  close(disk);
  unlink(OWN "/disk");
  return symlink(path, OWN "/disk") == 0 && done;
}
