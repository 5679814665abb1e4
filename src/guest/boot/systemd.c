/* What systemd needs to know of the agent's work, and the work of its own that would come too late. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
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
