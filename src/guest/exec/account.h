/* Users and their groups, from /etc/passwd and /etc/group (passwd(5), group(5)): a static program has no name services. */
#ifndef BANGER_ACCOUNT_H
#define BANGER_ACCOUNT_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

enum { ACCOUNT_GROUPS = 1024 };

struct account {
  uid_t uid;
  gid_t gid;
  char name[257];
  char home[PATH_MAX];
  char shell[PATH_MAX];
  size_t group_count;
  gid_t groups[ACCOUNT_GROUPS];
};

/*
 * Finds a user by name, else by number. Empty: root, which needs no entry. A number without an entry is a user without a
 * name, whose group has the same number. False if there is no such user.
 */
bool account_find(struct account *account, const char *user);

#endif
