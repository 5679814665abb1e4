#include "exec/terminal.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

void terminal_resize(int master, uint16_t rows, uint16_t columns) {
  struct winsize size = {.ws_row = rows, .ws_col = columns};
  ioctl(master, TIOCSWINSZ, &size);
}

/* The slave's end, by the master's own name for it: /dev/pts may be another mount, or none. */
static int open_slave(int master) {
  int unlock = 0;
  if (ioctl(master, TIOCSPTLCK, &unlock) != 0) return -1;
  return ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
}

static void set_utf8(int slave) {
  struct termios settings;
  if (tcgetattr(slave, &settings) != 0) return;
  settings.c_iflag |= IUTF8;
  tcsetattr(slave, TCSANOW, &settings);
}

bool terminal_open(int *master, int *slave, uint16_t rows, uint16_t columns) {
  *master = open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC | O_NONBLOCK);
  if (*master < 0) return false;
  *slave = open_slave(*master);
  if (*slave < 0) {
    int why = errno;
    close(*master);
    errno = why;
    return false;
  }
  set_utf8(*slave);
  terminal_resize(*master, rows, columns);
  return true;
}

pid_t terminal_foreground(int master) {
  pid_t group = tcgetpgrp(master);
  return group > 0 ? group : 0;
}

char terminal_end_character(int master) {
  struct termios settings;
  if (tcgetattr(master, &settings) != 0 || !(settings.c_lflag & ICANON)) return 0;
  return (char)settings.c_cc[VEOF];
}
