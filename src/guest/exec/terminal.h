/* A pseudo-terminal (pty(7)). */
#ifndef BANGER_TERMINAL_H
#define BANGER_TERMINAL_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* Opens both ends, close-on-exec, the master non-blocking. False, with errno. */
bool terminal_open(int *master, int *slave, uint16_t rows, uint16_t columns);
void terminal_resize(int master, uint16_t rows, uint16_t columns);
/* The process group in the foreground, or 0. */
pid_t terminal_foreground(int master);
/* The character that means the end of the input, or 0 while the terminal has none. */
char terminal_end_character(int master);

#endif
