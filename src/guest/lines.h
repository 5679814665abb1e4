/* Reading a text file line by line, in a buffer of fixed size. */
#ifndef BANGER_LINES_H
#define BANGER_LINES_H

#include <stdbool.h>
#include <stddef.h>

/* Longer lines are skipped. */
enum { LINE_BYTES = 65536 };

struct lines {
  int fd;
  size_t start, end;
  bool is_skipping;
  char buffer[LINE_BYTES];
};

/* Opens the file. False, with errno, if it can't be opened. Never waits for a pipe's other end. */
bool lines_open(struct lines *lines, const char *path);
/* The next line without its end, or NULL at the end, where the file is closed. Valid until the next call; may be written to. */
char *lines_next(struct lines *lines);
/* Closes the file before its end. */
void lines_close(struct lines *lines);

/* Reads a short file into `text`, ended by a NUL and without the newlines at its end. False, with errno, if it can't be read. */
bool read_text(const char *path, char *text, size_t room);
/* Writes a text to a file that exists. False, with errno, if it can't be written. */
bool write_text(const char *path, const char *text);

#endif
