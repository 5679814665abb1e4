/* What systemd needs to know of the agent's work, and the work of its own that would come too late. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "boot/parts.h"

#define DONE "/run/banger/agent-did"

void note_done(const char *job) {
  char path[128], text[128];
  snprintf(path, sizeof path, DONE "/%s", job);
  if (make_directories(DONE, 0755) == -1 || write_file(path, "") == -1) {
    say("%s can't be written: %s", path, strerror(errno));
    return;
  }
  if (!boot_result.init_is_systemd) return;
  snprintf(path, sizeof path, "/run/systemd/system/banger-%s.service.d", job);
  snprintf(text, sizeof text, "[Unit]\nConditionPathExists=!" DONE "/%s\n", job);
  bool made = make_directories(path, 0755) == 0;
  strcat(path, "/agent.conf");
  if (!made || write_file(path, text) == -1) say("%s can't be written: %s", path, strerror(errno));
}

/* Whether the image wants its tmp.mount: it is linked to, and the administrator hasn't masked it. */
static bool wants_tmp_mount(void) {
  char target[sizeof "/dev/null"] = "";
  struct stat status;
  if (lstat("/tmp", &status) == -1 || !S_ISDIR(status.st_mode)) return false;
  if (access("/usr/lib/systemd/system/local-fs.target.wants/tmp.mount", F_OK) == -1 &&
      access("/etc/systemd/system/local-fs.target.wants/tmp.mount", F_OK) == -1)
    return false;
  ssize_t length = readlink("/etc/systemd/system/tmp.mount", target, sizeof target - 1);
  return length == -1 || strcmp(target, "/dev/null") != 0;
}

void mount_tmp(void) {
  if (!wants_tmp_mount()) return;
  unsigned long flags = MS_NOSUID | MS_NODEV | MS_STRICTATIME;
  if (mount("tmpfs", "/tmp", "tmpfs", flags, "mode=1777,size=50%,nr_inodes=1m") == -1)
    say("/tmp can't be mounted: %s", strerror(errno));
}

void make_lock_directory(void) {
  mkdir("/run/lock", 0755);
  if (chmod("/run/lock", 01777) == -1) say("/run/lock can't be made: %s", strerror(errno));
}

/*
 * Debian 12's systemd-tmpfiles empties /tmp at boot (a line "D /tmp …"), but by then commands have run. So the agent does it, and a copy
 * of the settings in /run, which win, makes the directory without emptying it. Source: tmpfiles.d(5).
 */
void clear_tmp(void) {
  char text[8192];
  if (access("/etc/tmpfiles.d/tmp.conf", F_OK) == 0) return;
  if (read_start("/usr/lib/tmpfiles.d/tmp.conf", text, sizeof text) == -1) return;
  char *line = strncmp(text, "D", 1) == 0 ? text : strstr(text, "\nD");
  if (!line) return;
  if (*line == '\n') line++;
  size_t type_length = line[1] == '!' ? 2 : 1;
  char *path = line + type_length + strspn(line + type_length, " \t");
  if (path == line + type_length || strncmp(path, "/tmp", 4) != 0 || !strchr(" \t\n", path[4])) return;
  *line = 'd';
  if (make_directories("/run/tmpfiles.d", 0755) == -1 || write_file("/run/tmpfiles.d/tmp.conf", text) == -1) {
    say("/run/tmpfiles.d/tmp.conf can't be written: %s", strerror(errno));
    return;
  }
  int tmp = open("/tmp", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  if (tmp != -1) remove_contents(tmp);
}
