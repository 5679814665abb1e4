#include "exec/account.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "lines.h"

enum { PASSWD_FIELDS = 7, GROUP_FIELDS = 4 };

static struct lines lines;

/* Cuts a line at its colons. Returns how many fields there are. */
static int split_fields(char *line, char **fields, int most) {
  int count = 0;
  while (line && count < most) fields[count++] = strsep(&line, ":");
  return count;
}

/* A number of an account. The highest one means "unchanged" to the system calls, so it is nobody's. */
static bool parse_id(const char *text, uint32_t *id) {
  if (*text < '0' || *text > '9') return false;
  char *end;
  errno = 0;
  unsigned long long number = strtoull(text, &end, 10);
  if (errno != 0 || *end != 0 || number >= UINT32_MAX) return false;
  *id = (uint32_t)number;
  return true;
}

static bool copy_field(char *into, size_t room, const char *field) {
  size_t length = strlen(field);
  if (length >= room) return false;
  memcpy(into, field, length + 1);
  return true;
}

static bool take_entry(struct account *account, char **fields) {
  const char *home = *fields[5] ? fields[5] : "/";
  const char *shell = *fields[6] ? fields[6] : "/bin/sh";
  return parse_id(fields[2], &account->uid) && parse_id(fields[3], &account->gid) &&
         copy_field(account->name, sizeof account->name, fields[0]) &&
         copy_field(account->home, sizeof account->home, home) &&
         copy_field(account->shell, sizeof account->shell, shell);
}

/* Finds the entry of which a field is this text. */
static bool find_entry(struct account *account, int field, const char *text) {
  if (!lines_open(&lines, "/etc/passwd")) return false;
  for (char *line; (line = lines_next(&lines));) {
    char *fields[PASSWD_FIELDS];
    if (split_fields(line, fields, PASSWD_FIELDS) < PASSWD_FIELDS || strcmp(fields[field], text) != 0) continue;
    bool is_valid = take_entry(account, fields);
    lines_close(&lines);
    return is_valid;
  }
  return false;
}

static void make_nameless(struct account *account, uint32_t id) {
  account->uid = account->gid = id;
  strcpy(account->name, id == 0 ? "root" : "");
  strcpy(account->home, id == 0 ? "/root" : "/");
  strcpy(account->shell, "/bin/sh");
}

static bool is_member(char *members, const char *name) {
  for (char *member; (member = strsep(&members, ","));)
    if (strcmp(member, name) == 0) return true;
  return false;
}

static void find_groups(struct account *account) {
  account->groups[0] = account->gid;
  account->group_count = 1;
  if (*account->name == 0 || !lines_open(&lines, "/etc/group")) return;
  for (char *line; (line = lines_next(&lines));) {
    char *fields[GROUP_FIELDS];
    gid_t gid;
    if (split_fields(line, fields, GROUP_FIELDS) < GROUP_FIELDS || !is_member(fields[3], account->name)) continue;
    if (!parse_id(fields[2], &gid) || gid == account->gid) continue;
    if (account->group_count < ACCOUNT_GROUPS) account->groups[account->group_count++] = gid;
  }
}

bool account_find(struct account *account, const char *user) {
  const char *wanted = *user ? user : "root";
  uint32_t id;
  bool is_number = parse_id(wanted, &id);
  bool is_found = find_entry(account, 0, wanted) || (is_number && find_entry(account, 2, wanted));
  if (!is_found && !is_number && strcmp(wanted, "root") != 0) return false;
  if (!is_found) make_nameless(account, is_number ? id : 0);
  find_groups(account);
  return true;
}
