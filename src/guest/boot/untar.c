/*
 * Unpacks what src/daemon/image/write-tar.ts writes: ustar, plain files and directories, and extended headers for long paths. Read as
 * if from an enemy: every field is checked, and a path stays below its target. Source: pax(1).
 */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "boot/parts.h"

enum {
  BLOCK = 512,
  /* In POSIX's archive format. */
  NAME_AT = 0,
  NAME_BYTES = 100,
  MODE_AT = 100,
  SIZE_AT = 124,
  CHECKSUM_AT = 148,
  TYPE_AT = 156,
  MAGIC_AT = 257,
  PREFIX_AT = 345,
  MOST_ENTRIES = 100000,
  DEEPEST = 64,
  EXTENDED_BYTES = PATH_MAX + 64,
};
static const char FILES_PART[] = "root/";

struct entry {
  char path[PATH_MAX];
  mode_t mode;
  uint64_t size;
  char type;
};

static bool refuse(const char *why) {
  say("the identity disk's archive is refused: %s", why);
  return false;
}

static bool read_exactly(int file, void *into, size_t length) {
  char *bytes = into;
  while (length > 0) {
    ssize_t got = read(file, bytes, length);
    if (got == -1 && errno == EINTR) continue;
    if (got <= 0) return refuse(got == 0 ? "it ends too soon" : strerror(errno));
    bytes += got;
    length -= (size_t)got;
  }
  return true;
}

static bool read_octal(const unsigned char *field, size_t length, uint64_t *value) {
  size_t digits = 0;
  *value = 0;
  while (digits < length && field[digits] >= '0' && field[digits] <= '7') *value = *value * 8 + (field[digits++] - '0');
  return digits > 0 && (digits == length || field[digits] == '\0' || field[digits] == ' ');
}

static bool is_zero(const unsigned char *block) {
  for (size_t at = 0; at < BLOCK; at++)
    if (block[at] != 0) return false;
  return true;
}

static bool has_its_checksum(const unsigned char *block) {
  uint64_t said, sum = 0;
  if (!read_octal(block + CHECKSUM_AT, 8, &said)) return false;
  for (size_t at = 0; at < BLOCK; at++) sum += at >= CHECKSUM_AT && at < CHECKSUM_AT + 8 ? ' ' : block[at];
  return sum == said;
}

/* Reads an extended header's one record, `LENGTH path=VALUE\n`. */
static bool read_long_path(int archive, uint64_t size, char path[PATH_MAX]) {
  char record[EXTENDED_BYTES + BLOCK];
  size_t padded = (size_t)((size + BLOCK - 1) / BLOCK * BLOCK);
  if (size == 0 || size > EXTENDED_BYTES) return refuse("an extended header is too long");
  if (!read_exactly(archive, record, padded)) return false;
  if (record[size - 1] != '\n') return refuse("an extended header's length is wrong");
  char *end;
  errno = 0;
  unsigned long length = record[0] >= '1' && record[0] <= '9' ? strtoul(record, &end, 10) : 0;
  if (errno != 0 || length != size) return refuse("an extended header's length is wrong");
  static const char key[] = " path=";
  if (strncmp(end, key, sizeof key - 1) != 0) return refuse("an extended header isn't a path");
  const char *value = end + sizeof key - 1;
  size_t value_length = (size_t)(record + size - 1 - value);
  if (value_length >= PATH_MAX || memchr(value, '\0', value_length)) return refuse("a path is too long");
  memcpy(path, value, value_length);
  path[value_length] = '\0';
  return true;
}

/* The next entry. Its type is 0 at the archive's end. */
static bool read_entry(int archive, struct entry *entry) {
  unsigned char block[BLOCK];
  char long_path[PATH_MAX] = "";
  for (;;) {
    uint64_t mode;
    if (!read_exactly(archive, block, BLOCK)) return false;
    if (is_zero(block)) {
      entry->type = 0;
      return *long_path == '\0' || refuse("it ends after an extended header");
    }
    if (memcmp(block + MAGIC_AT, "ustar", 6) != 0 || block[PREFIX_AT] != '\0') return refuse("a header isn't ustar");
    if (!has_its_checksum(block)) return refuse("a header's checksum is wrong");
    if (!read_octal(block + MODE_AT, 8, &mode) || !read_octal(block + SIZE_AT, 12, &entry->size))
      return refuse("a header's number is none");
    entry->mode = (mode_t)(mode & 0777);
    entry->type = (char)block[TYPE_AT];
    if (entry->type != 'x') break;
    if (*long_path != '\0') return refuse("two extended headers follow each other");
    if (!read_long_path(archive, entry->size, long_path)) return false;
    if (*long_path == '\0') return refuse("a path is empty");
  }
  if (entry->type != '0' && entry->type != '5') return refuse("an entry is neither a file nor a directory");
  if (entry->type == '5' && entry->size != 0) return refuse("a directory has contents");
  if (*long_path != '\0') {
    strcpy(entry->path, long_path);
  } else {
    memcpy(entry->path, block + NAME_AT, NAME_BYTES);
    entry->path[NAME_BYTES] = '\0';
  }
  return true;
}

/* Whether a path is relative and has no part that is empty, "." or "..". */
static bool is_clean(const char *path) {
  int depth = 0;
  for (const char *part = path;; part++) {
    size_t length = strcspn(part, "/");
    if (length == 0 || length > NAME_MAX || ++depth > DEEPEST) return false;
    if (part[0] == '.' && (length == 1 || (length == 2 && part[1] == '.'))) return false;
    part += length;
    if (*part == '\0') return true;
  }
}

/* Opens a directory below another one, made first where it is missing; never through a link. */
static int open_below(int directory, const char *name) {
  if (mkdirat(directory, name, 0700) == -1 && errno != EEXIST) return -1;
  return openat(directory, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
}

/* Opens the directory that holds a path's last part, to which `path` points then. */
static int open_parent(int target, char **path) {
  int directory = fcntl(target, F_DUPFD_CLOEXEC, 3);
  char *slash;
  while (directory != -1 && (slash = strchr(*path, '/'))) {
    *slash = '\0';
    int below = open_below(directory, *path);
    int failure = errno;
    close(directory);
    errno = failure;
    directory = below;
    *path = slash + 1;
  }
  return directory;
}

static bool skip(int archive, uint64_t size) {
  char buffer[BLOCK * 16];
  for (uint64_t left = (size + BLOCK - 1) / BLOCK * BLOCK; left > 0;) {
    size_t some = left < sizeof buffer ? (size_t)left : sizeof buffer;
    if (!read_exactly(archive, buffer, some)) return false;
    left -= some;
  }
  return true;
}

static bool fail(const char *path) {
  say("%s of the identity disk can't be written: %s", path, strerror(errno));
  return false;
}

static bool write_contents(int archive, int file, const struct entry *entry) {
  char buffer[BLOCK * 16];
  for (uint64_t left = entry->size; left > 0;) {
    size_t some = left < sizeof buffer ? (size_t)left : sizeof buffer;
    size_t padded = (some + BLOCK - 1) / BLOCK * BLOCK;
    if (!read_exactly(archive, buffer, padded)) return false;
    for (size_t done = 0; done < some;) {
      ssize_t wrote = write(file, buffer + done, some - done);
      if (wrote == -1 && errno == EINTR) continue;
      if (wrote == -1) return fail(entry->path);
      done += (size_t)wrote;
    }
    left -= some;
  }
  return fchmod(file, entry->mode) == 0 || fail(entry->path);
}

static bool unpack(int archive, int target, const char *path, const struct entry *entry) {
  char copy[PATH_MAX];
  char *name = copy;
  strcpy(copy, path);
  int parent = open_parent(target, &name);
  if (parent == -1) return fail(entry->path);
  int made;
  bool done;
  if (entry->type == '5') {
    made = open_below(parent, name);
    done = made == -1 || fchmod(made, entry->mode) == -1 ? fail(entry->path) : true;
  } else {
    /* A new file: never into one that is there, nor through a link. */
    unlinkat(parent, name, 0);
    made = openat(parent, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    done = made == -1 ? fail(entry->path) : write_contents(archive, made, entry);
  }
  if (made != -1) close(made);
  close(parent);
  return done;
}

bool untar(int archive, int target, enum tar_part part) {
  static struct entry entry;
  for (int count = 0; count < MOST_ENTRIES; count++) {
    if (!read_entry(archive, &entry)) return false;
    if (entry.type == 0) return true;
    if (!is_clean(entry.path)) return refuse("a path leads out of it");
    bool is_file = strncmp(entry.path, FILES_PART, sizeof FILES_PART - 1) == 0;
    bool is_wanted = part == TAR_FILES ? is_file : !is_file && strcmp(entry.path, "root") != 0;
    const char *path = is_file ? entry.path + sizeof FILES_PART - 1 : entry.path;
    if (is_wanted ? !unpack(archive, target, path, &entry) : !skip(archive, entry.size)) return false;
  }
  return refuse("it has too many entries");
}
