/*
 * The mounts that a guest begins with. The options are those of systemd's src/shared/mount-setup.c: it leaves alone what is mounted
 * when it starts.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "boot/parts.h"

#define NEW_ROOT "/newroot"

struct mount_point {
  const char *type, *path, *options;
  unsigned long flags;
};

static const struct mount_point IN_INITRD[] = {
    {"devtmpfs", "/dev", "mode=0755", MS_NOSUID | MS_STRICTATIME},
    {"proc", "/proc", NULL, MS_NOSUID | MS_NOEXEC | MS_NODEV},
    {"sysfs", "/sys", NULL, MS_NOSUID | MS_NOEXEC | MS_NODEV},
};

static const struct mount_point BASICS[] = {
    {"devpts", "/dev/pts", "mode=0620,gid=5", MS_NOSUID | MS_NOEXEC},
    {"tmpfs", "/dev/shm", "mode=01777", MS_NOSUID | MS_NODEV | MS_STRICTATIME},
    {"tmpfs", "/run", "mode=0755,size=20%,nr_inodes=800k", MS_NOSUID | MS_NODEV | MS_STRICTATIME},
    {"cgroup2", "/sys/fs/cgroup", "nsdelegate,memory_recursiveprot", MS_NOSUID | MS_NOEXEC | MS_NODEV},
};

static bool mount_one(const struct mount_point *point) {
  mkdir(point->path, 0755);
  if (mount(point->type, point->path, point->type, point->flags, point->options) == 0) return true;
  /* A kernel that doesn't know one of the options. */
  if (errno == EINVAL && mount(point->type, point->path, point->type, point->flags, NULL) == 0) return true;
  say("%s can't be mounted: %s", point->path, strerror(errno));
  return false;
}

bool mount_initrd(void) {
  for (size_t at = 0; at < sizeof IN_INITRD / sizeof *IN_INITRD; at++)
    if (!mount_one(&IN_INITRD[at])) return false;
  return true;
}

void mount_basics(void) {
  for (size_t at = 0; at < sizeof BASICS / sizeof *BASICS; at++) mount_one(&BASICS[at]);
}

static bool move_to_new_root(const char *path) {
  char target[64];
  snprintf(target, sizeof target, NEW_ROOT "%s", path);
  mkdir(target, 0755);
  if (mount(path, target, NULL, MS_MOVE, NULL) == 0) return true;
  say("%s can't be moved to the root file system: %s", path, strerror(errno));
  return false;
}

bool switch_root(const struct boot_words *words) {
  mkdir(NEW_ROOT, 0755);
  int tries = 0;
  while (mount(words->root, NEW_ROOT, words->root_type, 0, NULL) == -1) {
    if (wait_a_little(&tries)) continue;
    say("no root file system on %s: %s", words->root, strerror(errno));
    return false;
  }
  for (size_t at = 0; at < sizeof IN_INITRD / sizeof *IN_INITRD; at++)
    if (!move_to_new_root(IN_INITRD[at].path)) return false;
  int initrd = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (chdir(NEW_ROOT) == -1 || mount(".", "/", NULL, MS_MOVE, NULL) == -1 || chroot(".") == -1 || chdir("/") == -1) {
    say("the root file system can't be made the root: %s", strerror(errno));
    return false;
  }
  /* Its memory is the guest's again. This program runs on, without a name. */
  if (initrd != -1) remove_contents(initrd);
  return true;
}
