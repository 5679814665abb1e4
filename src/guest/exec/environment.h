/* The environment of a command: the user's login environment, and the host's variables on top of it. */
#ifndef BANGER_ENVIRONMENT_H
#define BANGER_ENVIRONMENT_H

#include "exec/account.h"
#include "exec/request.h"

/* Makes it, in memory of its own. Called once in a process. */
char **environment_make(const struct account *account, struct request *request);
/* A variable's value, or NULL. */
const char *environment_get(char **environment, const char *name);

#endif
