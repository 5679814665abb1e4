/* Starting a command: its process, and this side of its input and output. */
#ifndef BANGER_COMMAND_H
#define BANGER_COMMAND_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "exec/group.h"
#include "exec/request.h"

/* Why there is no command. */
struct refusal {
  uint16_t code;
  int error_number;
  char text[LIMIT_ERROR_BYTES];
};

struct command {
  pid_t pid;
  /* A refusal of the child comes from here, or nothing as soon as the command runs. */
  int report;
  /* Non-blocking; -1 if there is none. With a terminal, `input` and `output` are two descriptors of its master. */
  int input, output, errors;
  bool has_terminal;
};

/* Starts it. False with a refusal if it can't even be tried. */
bool command_start(struct command *command, struct request *request, const struct exec_group *group, struct refusal *refusal);
/*
 * Reads the report once it is readable: 1 if the command runs, -1 with a refusal, 0 if there is no report yet. The report is
 * closed unless it is 0.
 */
int command_report(struct command *command, struct refusal *refusal);

#endif
