#include "exec/child.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "exec/environment.h"
#include "lines.h"

/* As systemd gives to services: few by default, since select(2) can't take more, and many for those who ask. */
static const struct rlimit OPEN_FILES = {.rlim_cur = 1024, .rlim_max = 524288};

__attribute__((format(printf, 4, 5))) static _Noreturn void refuse(const struct child *child, uint16_t code, int why,
                                                                   const char *format, ...) {
  struct refusal refusal = {.code = code, .error_number = why};
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(refusal.text, sizeof refusal.text, format, arguments);
  va_end(arguments);
  ssize_t put = write(child->report, &refusal, sizeof refusal);
  _exit(put == (ssize_t)sizeof refusal ? 127 : 126);
}

static void limit_open_files(void) {
  struct rlimit limit;
  if (setrlimit(RLIMIT_NOFILE, &OPEN_FILES) == 0 || getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  if (limit.rlim_cur > OPEN_FILES.rlim_cur) limit.rlim_cur = OPEN_FILES.rlim_cur;
  setrlimit(RLIMIT_NOFILE, &limit);
}

/* Signals, priorities and limits as a fresh login has them, not as the agent does. */
static void reset_process(void) {
  for (int number = 1; number < NSIG; number++) signal(number, SIG_DFL);
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, NULL);
  write_text("/proc/self/oom_score_adj", "0");
  limit_open_files();
  umask(022);
}

static void take_descriptors(const struct child *child) {
  setsid();
  if (child->request->exec.flags & EXEC_FLAG_TERMINAL) ioctl(child->output, TIOCSCTTY, 0);
  /* All are above 2: the agent keeps those taken. */
  dup2(child->input, 0);
  dup2(child->output, 1);
  dup2(child->errors, 2);
  syscall(SYS_close_range, 3, ~0U, 4 /* CLOSE_RANGE_CLOEXEC */);
}

static void become(const struct child *child) {
  const struct account *account = child->account;
  if (setgroups(account->group_count, account->groups) != 0)
    refuse(child, AGENT_ERROR_SYSTEM, errno, "setgroups: %s", strerror(errno));
  if (setresgid(account->gid, account->gid, account->gid) != 0)
    refuse(child, AGENT_ERROR_SYSTEM, errno, "setresgid: %s", strerror(errno));
  if (setresuid(account->uid, account->uid, account->uid) != 0)
    refuse(child, AGENT_ERROR_SYSTEM, errno, "setresuid: %s", strerror(errno));
}

/* Goes to the home, which may be missing, and from there to the directory asked for. */
static void enter_directory(const struct child *child) {
  const char *directory = child->request->directory;
  if (chdir(child->account->home) != 0 && chdir("/") != 0)
    refuse(child, AGENT_ERROR_DIRECTORY, errno, "/: %s", strerror(errno));
  if (*directory && chdir(directory) != 0)
    refuse(child, AGENT_ERROR_DIRECTORY, errno, "%.900s: %s", directory, strerror(errno));
}

/* Room for every argument that fits, an interpreter and its option before them, and NULL. */
static char *pointers[LIMIT_ARGUMENTS_BYTES + 3];

/* Like a shell, takes a file that the kernel can't run for a script, unless its first line isn't text. */
static bool is_script(const char *path) {
  char start[128];
  int file = open(path, O_RDONLY | O_CLOEXEC);
  ssize_t got = file < 0 ? -1 : read(file, start, sizeof start);
  if (file >= 0) close(file);
  if (got < 0) return false;
  const char *newline = memchr(start, '\n', (size_t)got);
  return !memchr(start, 0, newline ? (size_t)(newline - start) : (size_t)got);
}

/* Runs a file with the arguments from the second pointer on. Returns only if it can't, with errno. */
static void run_file(const char *path, char **environment) {
  execve(path, pointers + 1, environment);
  if (errno != ENOEXEC) return;
  if (!is_script(path)) {
    errno = ENOEXEC;
    return;
  }
  char *name = pointers[1];
  pointers[0] = (char *)"/bin/sh";
  pointers[1] = (char *)path;
  execve("/bin/sh", pointers, environment);
  pointers[1] = name;
}

/* Whether another directory of PATH may have what this one hasn't. Source: execvp(3). */
static bool may_be_elsewhere(int why) {
  return why == ENOENT || why == ENOTDIR || why == EACCES || why == ESTALE || why == ENODEV || why == ETIMEDOUT;
}

/* Looks for a name along PATH. Returns only if it can't be run, with errno. */
static void run_along_path(const char *name, const char *path, char **environment) {
  static char candidate[PATH_MAX];
  int why = ENOENT;
  for (const char *end; *name && path; path = *end ? end + 1 : NULL) {
    end = strchrnul(path, ':');
    int length = snprintf(candidate, sizeof candidate, "%.*s%s%s", (int)(end - path), path, end > path ? "/" : "./", name);
    if (length < 0 || length >= (int)sizeof candidate) continue;
    run_file(candidate, environment);
    if (errno == EACCES) why = EACCES;
    else if (!may_be_elsewhere(errno)) {
      why = errno;
      break;
    }
  }
  errno = why;
}

/* The request's arguments, from the second pointer on. */
static void point_to_arguments(struct request *request) {
  size_t count = 1;
  for (char *text = NULL; (text = next_text(request->arguments, request->arguments_bytes, text));) pointers[count++] = text;
  pointers[count] = NULL;
}

/* The arguments as one text, with blanks between them. */
static void join_arguments(struct request *request) {
  for (size_t i = 0; i + 1 < request->arguments_bytes; i++)
    if (request->arguments[i] == 0) request->arguments[i] = ' ';
}

/* A login shell knows itself by a name that begins with a minus. Source: login(1). */
static void point_to_shell(struct request *request, const char *shell) {
  static char name[257];
  const char *slash = strrchr(shell, '/');
  snprintf(name, sizeof name, "-%.255s", slash ? slash + 1 : shell);
  size_t count = 1;
  pointers[count++] = name;
  if (request->arguments_bytes > 0) {
    join_arguments(request);
    pointers[count++] = (char *)"-c";
    pointers[count++] = request->arguments;
  }
  pointers[count] = NULL;
}

_Noreturn void child_run(const struct child *child) {
  struct request *request = child->request;
  bool is_login = request->exec.flags & EXEC_FLAG_LOGIN;
  const char *name = is_login ? child->account->shell : request->arguments;
  reset_process();
  take_descriptors(child);
  become(child);
  enter_directory(child);
  if (is_login) point_to_shell(request, name);
  else point_to_arguments(request);
  if (strchr(name, '/')) run_file(name, child->environment);
  else run_along_path(name, environment_get(child->environment, "PATH"), child->environment);
  int why = errno;
  uint16_t code = why == ENOENT || why == ENOTDIR ? AGENT_ERROR_NOT_FOUND : AGENT_ERROR_NOT_EXECUTABLE;
  refuse(child, code, why, "%.900s: %s", name, strerror(why));
}
