/* The first process: from the initrd to the image's own init. */
#include "boot.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "boot/parts.h"
#include "server.h"

enum { CMDLINE_BYTES = 4096 + 1, FAILED = 1 };

struct boot_result boot_result;

void say(const char *format, ...) {
  char line[512] = "banger: ";
  size_t used = strlen(line);
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(line + used, sizeof line - used - 1, format, arguments);
  va_end(arguments);
  strcat(line, "\n");
  int console = open("/dev/console", O_WRONLY | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
  if (write(console == -1 ? STDERR_FILENO : console, line, strlen(line)) == -1) return;
  if (console != -1) close(console);
}

static bool read_arguments(struct boot_words *words) {
  static char text[CMDLINE_BYTES];
  if (read_start("/proc/cmdline", text, sizeof text) == -1) {
    say("the kernel's arguments can't be read: %s", strerror(errno));
    return false;
  }
  read_words(text, words);
  return true;
}

/* The descriptors that every program expects. The kernel opens them only where the initrd has a /dev/console. */
static void open_console(void) {
  int console = open("/dev/console", O_RDWR | O_NOCTTY);
  if (console == -1) return;
  for (int standard = 0; standard <= 2; standard++)
    if (console != standard) dup2(console, standard);
  if (console > 2) close(console);
}

static void find_init(const struct boot_words *words) {
  char real[PATH_MAX];
  boot_result.is_init = !words->has_init && access(words->init, X_OK) == -1;
  if (!realpath(words->init, real)) return;
  const char *name = strrchr(real, '/');
  boot_result.init_is_systemd = name && strcmp(name, "/systemd") == 0;
}

static void do_jobs(const struct boot_words *words) {
  if (*words->hostname != '\0' && sethostname(words->hostname, strlen(words->hostname)) == -1)
    say("the hostname can't be set: %s", strerror(errno));
  bring_up_loopback();
  if (set_identity()) note_done("identity");
  boot_result.work_disk = mount_work_disk();
  if (boot_result.work_disk) note_done("work");
  if (set_network(words)) note_done("network");
  make_lock_directory();
  if (!boot_result.init_is_systemd) return;
  mount_tmp();
  clear_tmp();
}

/* The names of standard streams, which an init makes. */
static void link_streams(void) {
  static const char *const links[][2] = {
      {"/proc/self/fd", "/dev/fd"},
      {"/proc/self/fd/0", "/dev/stdin"},
      {"/proc/self/fd/1", "/dev/stdout"},
      {"/proc/self/fd/2", "/dev/stderr"},
  };
  for (size_t at = 0; at < sizeof links / sizeof *links; at++)
    if (symlink(links[at][0], links[at][1]) == -1 && errno != EEXIST) say("%s can't be made", links[at][1]);
}

static void start_server(void) {
  pid_t server = fork();
  if (server == -1) say("the agent can't be started: %s", strerror(errno));
  if (server != 0) return;
  /* systemd leaves alone what is named so, at its start and when it ends the guest. Source: systemd.io/ROOT_STORAGE_DAEMONS. */
  if (program_invocation_name[0] != '\0') program_invocation_name[0] = '@';
  setsid();
  server_main();
}

int boot_main(void) {
  /* Another's initrd knows its own way. */
  if (access("/modules", F_OK) == -1 && access("/init", X_OK) == 0) {
    char *const arguments[] = {"/init", NULL};
    execv(arguments[0], arguments);
    say("/init can't be run: %s", strerror(errno));
    return FAILED;
  }
  umask(022);
  struct boot_words words;
  if (!mount_initrd()) return FAILED;
  open_console();
  if (!read_arguments(&words)) return FAILED;
  load_modules();
  if (!switch_root(&words)) return FAILED;
  mount_basics();
  find_init(&words);
  link_streams();
  do_jobs(&words);
  start_server();
  if (boot_result.is_init) run_plain_init();
  char *const arguments[] = {words.init, NULL};
  execv(words.init, arguments);
  say("%s can't be run: %s", words.init, strerror(errno));
  return FAILED;
}
