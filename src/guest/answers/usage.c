/* Network traffic, from /proc/net/dev (proc_net(5)). */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "answers/answers.h"
#include "lines.h"

static void add_interface(struct frame_counters *counters, const char *name, const char *numbers) {
  uint64_t received, sent;
  if (strcmp(name + strspn(name, " "), "lo") == 0) return;
  if (sscanf(numbers, "%" SCNu64 " %*u %*u %*u %*u %*u %*u %*u %" SCNu64, &received, &sent) != 2) return;
  counters->rx_bytes += received;
  counters->tx_bytes += sent;
}

const char *read_usage(struct frame_counters *counters) {
  static struct lines lines;
  *counters = (struct frame_counters){0};
  if (!lines_open(&lines, "/proc/net/dev")) return "/proc/net/dev";
  for (char *line; (line = lines_next(&lines));) {
    char *colon = strchr(line, ':');
    if (!colon) continue;
    *colon = 0;
    add_interface(counters, line, colon + 1);
  }
  return NULL;
}
