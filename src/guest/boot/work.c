/* The work disk on /root. Repairing it is left to the image's own script, which has the programs for it. */
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "boot/parts.h"

#define DISK "/dev/vdb"
#define REPAIR "/usr/lib/banger/work"
/* In the kernel's fs/ext4/ext4.h. */
#define EXT4_IOC_RESIZE_FS _IOW('f', 16, uint64_t)

/* Whether the kernel met errors in it, now or in its past. */
static bool has_errors(void) {
  char count[16];
  return read_start("/sys/fs/ext4/vdb/errors_count", count, sizeof count) > 0 && strcmp(count, "0\n") != 0;
}

/* Makes the file system as large as its disk. */
static void grow(void) {
  int disk = open(DISK, O_RDONLY | O_CLOEXEC);
  int top = open("/root", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  struct statfs status;
  uint64_t bytes, blocks;
  if (disk == -1 || top == -1 || ioctl(disk, BLKGETSIZE64, &bytes) == -1 || fstatfs(top, &status) == -1) {
    say("the work disk can't be measured: %s", strerror(errno));
  } else {
    blocks = bytes / (uint64_t)status.f_bsize;
    if (ioctl(top, EXT4_IOC_RESIZE_FS, &blocks) == -1) say("the work disk can't be grown: %s", strerror(errno));
  }
  if (disk != -1) close(disk);
  if (top != -1) close(top);
}

/* The files that a new VM begins with. The host leaves them out once the VM has been reached. */
static bool write_first_files(void) {
  int archive = open("/run/banger/disk", O_RDONLY | O_CLOEXEC);
  int top = open("/root", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  bool done = archive != -1 && top != -1 && untar(archive, top, TAR_FILES);
  if (archive != -1) close(archive);
  if (top != -1) close(top);
  return done;
}

bool mount_work_disk(void) {
  bool can_repair = access(REPAIR, X_OK) == 0;
  mkdir("/root", 0700);
  if (mount(DISK, "/root", "ext4", 0, "noinit_itable") == -1) {
    if (!can_repair) say("the work disk can't be mounted: %s", strerror(errno));
    return false;
  }
  if (has_errors()) {
    if (can_repair) return umount("/root") == -1;
    say("the work disk has errors: check it with e2fsck");
  }
  if (access("/run/banger/grown", F_OK) == 0) grow();
  if (access("/run/banger/has-files", F_OK) == 0 && !write_first_files() && can_repair) return umount("/root") == -1;
  return true;
}
