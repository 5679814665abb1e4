/* The guest's virtio-serial ports that are the host's way in. */
#ifndef BANGER_PORTS_H
#define BANGER_PORTS_H

#include <stdbool.h>
#include <stddef.h>

#include "serve/hello.h"

/* As many as are served, however many devices there are. */
enum { PORTS = 2 * AGENT_SERIAL_PORTS };

struct port {
  /* -1: no port. */
  int fd;
  /* From the session that has the port; -1 while none has. */
  int returned;
  struct hello hello;
  /* As in /sys/class/virtio-ports. */
  char device[32];
};

void ports_clear(struct port *ports);
/*
 * Opens the host's ports that aren't open yet, and calls `opened` with the number of each. Returns whether there may be more
 * soon: the kernel makes a port's device before it knows the port's name.
 */
bool ports_find(struct port *ports, void (*opened)(size_t number));

#endif
