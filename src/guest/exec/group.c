#include "exec/group.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <linux/sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "lines.h"

enum {
  /* More processes than this aren't looked at. */
  PROCESSES = 32768,
  /* A process may fork while the signals are sent, so they are sent until nothing new is found. */
  ROUNDS = 10,
  NAME_TRIES = 16,
};

/* Where cgroup v2 is mounted: alone, or beside v1 as systemd's hybrid layout does. */
static const char *const MOUNTS[] = {"/sys/fs/cgroup", "/sys/fs/cgroup/unified"};

/* The agent's part of the tree, or NULL where there can be none. */
static const char *find_base(void) {
  static char base[64];
  struct statfs info;
  for (size_t i = 0; i < sizeof MOUNTS / sizeof *MOUNTS; i++) {
    if (statfs(MOUNTS[i], &info) != 0 || info.f_type != CGROUP2_SUPER_MAGIC) continue;
    snprintf(base, sizeof base, "%s/banger", MOUNTS[i]);
    return mkdir(base, 0755) == 0 || errno == EEXIST ? base : NULL;
  }
  return NULL;
}

void group_join_agents(void) {
  const char *base = find_base();
  char path[96];
  if (!base) return;
  snprintf(path, sizeof path, "%s/agent", base);
  mkdir(path, 0755);
  snprintf(path, sizeof path, "%s/agent/cgroup.procs", base);
  write_text(path, "0");
}

/* A session's number may come again while something of the exec that had it still runs. */
static void name_cgroup(struct exec_group *group, const char *base, pid_t session, int try) {
  int length = snprintf(group->path, sizeof group->path, "%s/exec-%d", base, (int)session);
  if (try > 0) snprintf(group->path + length, sizeof group->path - (size_t)length, ".%d", try);
}

void group_make(struct exec_group *group) {
  group->directory = -1;
  prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
  const char *base = find_base();
  if (!base) return;
  for (int try = 0; try < NAME_TRIES; try++) {
    name_cgroup(group, base, getpid(), try);
    if (mkdir(group->path, 0755) == 0) {
      group->directory = open(group->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
      return;
    }
    if (errno != EEXIST) return;
  }
}

/* Opens a file of the cgroup. */
static int open_file(const struct exec_group *group, const char *name, int flags) {
  return group->directory < 0 ? -1 : openat(group->directory, name, flags | O_CLOEXEC);
}

pid_t group_fork(const struct exec_group *group) {
  if (group->directory < 0) return fork();
  struct clone_args args = {
      .flags = CLONE_INTO_CGROUP, .exit_signal = SIGCHLD, .cgroup = (uint64_t)group->directory};
  pid_t pid = (pid_t)syscall(SYS_clone3, &args, sizeof args);
  if (pid >= 0 || errno == EAGAIN || errno == ENOMEM) return pid;
  /* Before Linux 5.7: the child moves itself. */
  pid = fork();
  if (pid == 0) {
    int file = open_file(group, "cgroup.procs", O_WRONLY);
    if (file >= 0 && write(file, "0", 1) < 0) errno = 0;
    if (file >= 0) close(file);
  }
  return pid;
}

struct process {
  pid_t pid, parent;
  bool is_ours;
};
static struct process processes[PROCESSES];

/* Its parent, from /proc/PID/stat (proc(5)): the name before it may hold anything, even parentheses. */
static pid_t read_parent(const char *pid) {
  char path[64], text[512];
  snprintf(path, sizeof path, "/proc/%.20s/stat", pid);
  if (!read_text(path, text, sizeof text)) return -1;
  const char *after_name = strrchr(text, ')');
  int parent;
  return after_name && sscanf(after_name + 1, " %*c %d", &parent) == 1 ? parent : -1;
}

static int by_pid(const void *a, const void *b) {
  return ((const struct process *)a)->pid - ((const struct process *)b)->pid;
}

static size_t list_processes(void) {
  DIR *directory = opendir("/proc");
  size_t count = 0;
  if (!directory) return 0;
  for (struct dirent *entry; (entry = readdir(directory)) && count < PROCESSES;) {
    pid_t pid = (pid_t)atoi(entry->d_name);
    if (pid <= 0) continue;
    processes[count++] = (struct process){.pid = pid, .parent = read_parent(entry->d_name)};
  }
  closedir(directory);
  qsort(processes, count, sizeof *processes, by_pid);
  return count;
}

static bool is_ours(pid_t pid, size_t count) {
  struct process wanted = {.pid = pid};
  if (pid == getpid()) return true;
  const struct process *found = bsearch(&wanted, processes, count, sizeof *processes, by_pid);
  return found && found->is_ours;
}

/* Marks the session's descendants, however far. */
static void mark_descendants(size_t count) {
  for (bool is_changed = true; is_changed;) {
    is_changed = false;
    for (size_t i = 0; i < count; i++) {
      if (processes[i].is_ours || !is_ours(processes[i].parent, count)) continue;
      processes[i].is_ours = is_changed = true;
    }
  }
}

enum { SIGNALLED = PROCESSES };
static pid_t signalled[SIGNALLED];
static size_t signalled_count;

/* Signals a process, each once in a call of group_signal. Returns whether it was new. */
static bool signal_once(pid_t pid, int number) {
  for (size_t i = 0; i < signalled_count; i++)
    if (signalled[i] == pid) return false;
  if (signalled_count == SIGNALLED || kill(pid, number) != 0) return false;
  signalled[signalled_count++] = pid;
  return true;
}

static bool signal_descendants(int number) {
  bool is_new = false;
  size_t count = list_processes();
  mark_descendants(count);
  for (size_t i = 0; i < count; i++)
    if (processes[i].is_ours) is_new |= signal_once(processes[i].pid, number);
  return is_new;
}

static bool signal_cgroup(const struct exec_group *group, int number) {
  bool is_new = false;
  int file = open_file(group, "cgroup.procs", O_RDONLY);
  FILE *list = file < 0 ? NULL : fdopen(file, "r");
  if (!list) {
    if (file >= 0) close(file);
    return false;
  }
  for (int pid; fscanf(list, "%d", &pid) == 1;)
    if (pid > 0 && pid != getpid()) is_new |= signal_once(pid, number);
  fclose(list);
  return is_new;
}

/* Before Linux 5.14, there is no such file. */
static void kill_cgroup(const struct exec_group *group) {
  int file = open_file(group, "cgroup.kill", O_WRONLY);
  if (file >= 0 && write(file, "1", 1) < 0) errno = 0;
  if (file >= 0) close(file);
}

void group_signal(const struct exec_group *group, int number) {
  signalled_count = 0;
  if (number == SIGKILL) kill_cgroup(group);
  for (int round = 0; round < ROUNDS; round++) {
    bool is_new = signal_cgroup(group, number);
    is_new |= signal_descendants(number);
    if (!is_new) return;
  }
}

void group_remove(struct exec_group *group) {
  if (group->directory < 0) return;
  close(group->directory);
  group->directory = -1;
  rmdir(group->path);
}

void group_kill_orphans(pid_t session) {
  const char *base = find_base();
  struct exec_group group = {.directory = -1};
  for (int try = NAME_TRIES; base && group.directory < 0 && try-- > 0;) {
    name_cgroup(&group, base, session, try);
    group.directory = open(group.path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  }
  kill_cgroup(&group);
  group_remove(&group);
}

void group_sweep(void) {
  const char *base = find_base();
  DIR *directory = base ? opendir(base) : NULL;
  if (!directory) return;
  for (struct dirent *entry; (entry = readdir(directory));)
    /* One that is empty may be a running session's, which is about to start its command in it. */
    if (strncmp(entry->d_name, "exec-", 5) == 0 && kill(atoi(entry->d_name + 5), 0) != 0)
      unlinkat(dirfd(directory), entry->d_name, AT_REMOVEDIR);
  closedir(directory);
}
