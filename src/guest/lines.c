#include "lines.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

bool lines_open(struct lines *lines, const char *path) {
  lines->start = lines->end = 0;
  lines->is_skipping = false;
  lines->fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
  return lines->fd >= 0;
}

void lines_close(struct lines *lines) {
  if (lines->fd >= 0) close(lines->fd);
  lines->fd = -1;
}

/* Reads more behind what is held. False at the file's end. */
static bool read_more(struct lines *lines) {
  memmove(lines->buffer, lines->buffer + lines->start, lines->end - lines->start);
  lines->end -= lines->start;
  lines->start = 0;
  if (lines->end == LINE_BYTES - 1) {
    lines->is_skipping = true;
    lines->end = 0;
  }
  ssize_t got;
  do got = read(lines->fd, lines->buffer + lines->end, LINE_BYTES - 1 - lines->end);
  while (got < 0 && errno == EINTR);
  if (got <= 0) return false;
  lines->end += (size_t)got;
  return true;
}

char *lines_next(struct lines *lines) {
  while (lines->fd >= 0) {
    char *line = lines->buffer + lines->start;
    char *newline = memchr(line, '\n', lines->end - lines->start);
    bool is_last = !newline && !read_more(lines);
    if (!newline && !is_last) continue;
    bool is_whole = !lines->is_skipping;
    lines->is_skipping = false;
    if (is_last) {
      bool has_line = lines->end > lines->start && is_whole;
      line = lines->buffer + lines->start;
      lines->buffer[lines->end] = 0;
      lines_close(lines);
      return has_line ? line : NULL;
    }
    *newline = 0;
    lines->start = (size_t)(newline + 1 - lines->buffer);
    if (is_whole) return line;
  }
  return NULL;
}

bool read_text(const char *path, char *text, size_t room) {
  int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
  if (fd < 0) return false;
  ssize_t got = read(fd, text, room - 1);
  close(fd);
  if (got < 0) return false;
  while (got > 0 && text[got - 1] == '\n') got--;
  text[got] = 0;
  return true;
}

bool write_text(const char *path, const char *text) {
  int fd = open(path, O_WRONLY | O_CLOEXEC | O_NOCTTY);
  if (fd < 0) return false;
  size_t length = strlen(text);
  bool is_written = write(fd, text, length) == (ssize_t)length;
  close(fd);
  return is_written;
}
