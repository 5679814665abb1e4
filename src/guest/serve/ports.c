#include "serve/ports.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "lines.h"

static const char CLASS[] = "/sys/class/virtio-ports";

void ports_clear(struct port *ports) {
  for (size_t i = 0; i < PORTS; i++) ports[i] = (struct port){.fd = -1, .returned = -1};
}

static bool read_name(const char *device, char *name, size_t room) {
  char path[128];
  snprintf(path, sizeof path, "%s/%.31s/name", CLASS, device);
  return read_text(path, name, room);
}

static bool is_host_port(const char *name) {
  return strncmp(name, AGENT_SERIAL_PREFIX, strlen(AGENT_SERIAL_PREFIX)) == 0;
}

static bool is_open(const struct port *ports, const char *device) {
  for (size_t i = 0; i < PORTS; i++)
    if (ports[i].fd >= 0 && strcmp(ports[i].device, device) == 0) return true;
  return false;
}

static bool open_port(struct port *port, const char *device) {
  char path[64];
  snprintf(path, sizeof path, "/dev/%.31s", device);
  int fd = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
  if (fd < 0) return false;
  *port = (struct port){.fd = fd, .returned = -1};
  snprintf(port->device, sizeof port->device, "%.31s", device);
  return true;
}

/* Returns whether it may work later. */
static bool find_port(struct port *ports, const char *device, void (*opened)(size_t number)) {
  char name[64];
  size_t number = 0;
  if (is_open(ports, device)) return false;
  if (!read_name(device, name, sizeof name)) return true;
  if (!is_host_port(name)) return false;
  while (number < PORTS && ports[number].fd >= 0) number++;
  if (number == PORTS) return false;
  bool is_opened = open_port(&ports[number], device);
  if (is_opened) opened(number);
  return !is_opened;
}

bool ports_find(struct port *ports, void (*opened)(size_t number)) {
  DIR *directory = opendir(CLASS);
  bool may_be_more = false;
  if (!directory) return false;
  for (struct dirent *entry; (entry = readdir(directory));)
    if (*entry->d_name != '.') may_be_more |= find_port(ports, entry->d_name, opened);
  closedir(directory);
  return may_be_more;
}
