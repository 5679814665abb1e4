/* TCP ports listened on, from /proc/net/tcp and tcp6, and who listens: whoever has the socket among its descriptors (proc(5)). */
#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "answers/answers.h"
#include "deadline.h"
#include "lines.h"

/* State TCP_LISTEN in the kernel's include/net/tcp_states.h. */
enum { LISTENING = 10 };
/* A guest may have any number of processes and descriptors: after this time, the rest of the ports have no name. */
enum { NAMES_WITHIN_MS = 2000 };

struct listener {
  uint16_t port;
  uint64_t inode;
  char process[LIMIT_PROCESS_BYTES + 1];
};
static struct listener listeners[LIMIT_LISTENERS];
static size_t count, nameless;
static int64_t named_until;

static void add_listener(uint16_t port, uint64_t inode) {
  for (size_t i = 0; i < count; i++)
    if (listeners[i].port == port) return;
  if (count < LIMIT_LISTENERS) listeners[count++] = (struct listener){.port = port, .inode = inode};
}

static bool read_table(const char *path) {
  static struct lines lines;
  if (!lines_open(&lines, path)) return false;
  for (char *line; (line = lines_next(&lines));) {
    unsigned int port, state;
    uint64_t inode;
    int found = sscanf(line, " %*d: %*[0-9A-Fa-f]:%4x %*[0-9A-Fa-f]:%*x %x %*x:%*x %*x:%*x %*x %*u %*u %" SCNu64, &port,
                       &state, &inode);
    if (found == 3 && state == LISTENING) add_listener((uint16_t)port, inode);
  }
  return true;
}

static void name_inode(uint64_t inode, const char *process) {
  for (size_t i = 0; i < count; i++) {
    if (listeners[i].inode != inode || *listeners[i].process) continue;
    snprintf(listeners[i].process, sizeof listeners[i].process, "%.*s", LIMIT_PROCESS_BYTES, process);
    nameless--;
  }
}

static void name_sockets(int directory, const char *process) {
  DIR *entries = fdopendir(directory);
  if (!entries) {
    close(directory);
    return;
  }
  for (struct dirent *entry; nameless > 0 && now_ms() < named_until && (entry = readdir(entries));) {
    char target[64];
    uint64_t inode;
    ssize_t length = readlinkat(dirfd(entries), entry->d_name, target, sizeof target - 1);
    target[length > 0 ? length : 0] = 0;
    if (sscanf(target, "socket:[%" SCNu64 "]", &inode) == 1) name_inode(inode, process);
  }
  closedir(entries);
}

static void name_listeners(void) {
  named_until = now_ms() + NAMES_WITHIN_MS;
  DIR *processes = opendir("/proc");
  if (!processes) return;
  for (struct dirent *entry; nameless > 0 && now_ms() < named_until && (entry = readdir(processes));) {
    char path[64], process[LIMIT_PROCESS_BYTES + 1];
    if (atoi(entry->d_name) <= 0) continue;
    snprintf(path, sizeof path, "/proc/%.20s/comm", entry->d_name);
    if (!read_text(path, process, sizeof process)) continue;
    snprintf(path, sizeof path, "/proc/%.20s/fd", entry->d_name);
    int directory = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (directory >= 0) name_sockets(directory, process);
  }
  closedir(processes);
}

const char *put_listeners(struct channel *channel) {
  bool has_tcp = read_table("/proc/net/tcp");
  if (!read_table("/proc/net/tcp6") && !has_tcp) return "/proc/net/tcp";
  nameless = count;
  name_listeners();
  for (size_t i = 0; i < count; i++) {
    struct frame_listener listener = {.port = listeners[i].port};
    channel_put(channel, FRAME_LISTENER, &listener, sizeof listener, listeners[i].process, strlen(listeners[i].process));
  }
  return NULL;
}
