/* The child's side of starting a command. */
#ifndef BANGER_CHILD_H
#define BANGER_CHILD_H

#include "exec/account.h"
#include "exec/command.h"

struct child {
  const struct account *account;
  struct request *request;
  char **environment;
  /* Its own ends of its input and output, and of the report. */
  int input, output, errors, report;
};

/* Becomes the command, or reports why it can't and ends. */
_Noreturn void child_run(const struct child *child);

#endif
