#include "exec/command.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "exec/account.h"
#include "exec/child.h"
#include "exec/environment.h"
#include "exec/terminal.h"

static struct account account;

static bool refuse(struct refusal *refusal, uint16_t code, int why, const char *what) {
  refusal->code = code;
  refusal->error_number = why;
  snprintf(refusal->text, sizeof refusal->text, "%.900s: %s", what, why ? strerror(why) : "no such user");
  return false;
}

static void close_end(int *end) {
  if (*end > 2) close(*end);
  *end = -1;
}

/*
 * Of a pipe, what Linux lets anyone have at most. In an emulated guest with two processors, 200 MB through a pipe of the usual 64 KiB take
 * eight times as long: each time it is full or empty, one of its ends wakes the other on another processor.
 */
enum { PIPE_BYTES = 1 << 20 };

/* A pipe whose ends belong to the user: it opens /dev/stdin and its like anew by name. */
static bool make_pipe(int *read_end, int *write_end) {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return false;
  *read_end = ends[0];
  *write_end = ends[1];
  fcntl(ends[1], F_SETPIPE_SZ, PIPE_BYTES);
  return fchown(ends[0], account.uid, account.gid) == 0;
}

static bool make_pipes(struct command *command, struct child *child, bool has_input) {
  if (!make_pipe(&command->output, &child->output) || !make_pipe(&command->errors, &child->errors)) return false;
  if (has_input) return make_pipe(&child->input, &command->input);
  child->input = open("/dev/null", O_RDONLY | O_CLOEXEC);
  return child->input >= 0;
}

static bool make_terminal(struct command *command, struct child *child, const struct frame_exec *exec) {
  if (!terminal_open(&command->output, &child->output, exec->rows, exec->columns)) return false;
  command->input = fcntl(command->output, F_DUPFD_CLOEXEC, 3);
  child->input = exec->flags & EXEC_FLAG_NO_STDIN ? open("/dev/null", O_RDONLY | O_CLOEXEC)
                                                  : fcntl(child->output, F_DUPFD_CLOEXEC, 3);
  child->errors = fcntl(child->output, F_DUPFD_CLOEXEC, 3);
  if (command->input < 0 || child->input < 0 || child->errors < 0) return false;
  return fchown(child->output, account.uid, (gid_t)-1) == 0;
}

static void make_non_blocking(int fd) {
  if (fd >= 0) fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
}

static bool make_ends(struct command *command, struct child *child, const struct frame_exec *exec) {
  int report[2];
  if (pipe2(report, O_CLOEXEC) != 0) return false;
  command->report = report[0];
  child->report = report[1];
  command->has_terminal = exec->flags & EXEC_FLAG_TERMINAL;
  bool is_made = command->has_terminal ? make_terminal(command, child, exec)
                                       : make_pipes(command, child, !(exec->flags & EXEC_FLAG_NO_STDIN));
  make_non_blocking(command->input);
  make_non_blocking(command->output);
  make_non_blocking(command->errors);
  return is_made;
}

static void close_childs_ends(struct child *child) {
  close_end(&child->input);
  close_end(&child->output);
  close_end(&child->errors);
  close_end(&child->report);
}

bool command_start(struct command *command, struct request *request, const struct exec_group *group,
                   struct refusal *refusal) {
  *command = (struct command){.pid = -1, .report = -1, .input = -1, .output = -1, .errors = -1};
  if (!account_find(&account, request->user)) return refuse(refusal, AGENT_ERROR_USER, 0, request->user);
  struct child child = {.account = &account, .request = request, .input = -1, .output = -1, .errors = -1, .report = -1};
  child.environment = environment_make(&account, request);
  bool is_made = make_ends(command, &child, &request->exec);
  if (is_made) command->pid = group_fork(group);
  int why = errno;
  if (command->pid == 0) child_run(&child);
  close_childs_ends(&child);
  return command->pid > 0 || refuse(refusal, AGENT_ERROR_SYSTEM, why, is_made ? "fork" : "pipes or terminal");
}

int command_report(struct command *command, struct refusal *refusal) {
  ssize_t got = read(command->report, refusal, sizeof *refusal);
  if (got < 0 && (errno == EINTR || errno == EAGAIN)) return 0;
  close_end(&command->report);
  if (got == 0) return 1;
  refusal->text[sizeof refusal->text - 1] = 0;
  return -1;
}
