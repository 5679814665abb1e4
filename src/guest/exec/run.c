#include "exec/run.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "deadline.h"
#include "exec/command.h"
#include "exec/ending.h"
#include "exec/group.h"
#include "exec/input.h"
#include "exec/output.h"
#include "exec/terminal.h"

/* How long after the command's end its output may still come from others. */
enum { DRAIN_MS = 500 };

static struct {
  struct session *session;
  struct channel *channel;
  uint32_t flags;
  struct exec_group group;
  struct command command;
  struct input input;
  struct output output, errors;
  struct ending ending;
  int children;
  bool runs, has_ended, is_alone;
  int wait_status;
  struct rusage usage;
  int64_t began_us, wall_us, drained_at;
} run;

static bool must_keep(void) {
  return run.flags & EXEC_FLAG_KEEP;
}

/*
 * The host is gone. Unless the command is kept, everything of it goes too. Its output is still read, to nowhere: what tidies up
 * may say something.
 */
static void lose_channel(void) {
  session_release(run.session);
  input_close(&run.input);
  if (!must_keep()) ending_hang_up(&run.ending, &run.group);
}

static void break_protocol(const char *why) {
  channel_put_error(run.channel, AGENT_ERROR_PROTOCOL, 0, why);
  run.flags &= ~(uint32_t)EXEC_FLAG_KEEP;
  channel_flush(run.channel);
  run.channel->broken = true;
}

/* To the process group: with a terminal, the one in its foreground, as the terminal's own keys do. */
static void signal_command(int number) {
  pid_t foreground = run.command.has_terminal && run.output.fd >= 0 ? terminal_foreground(run.output.fd) : 0;
  if (number == SIGKILL || run.has_ended) group_signal(&run.group, number);
  else if (foreground > 0) kill(-foreground, number);
  /* Before its setsid, the command has no group. */
  else if (kill(-run.command.pid, number) != 0) kill(run.command.pid, number);
}

static const char *take_signal(const struct frame *frame) {
  struct frame_signal signal;
  memcpy(&signal, frame->payload, sizeof signal);
  if (signal.number < 1 || signal.number >= NSIG) return "there is no such signal";
  signal_command(signal.number);
  return NULL;
}

static const char *take_resize(const struct frame *frame) {
  struct frame_resize size;
  memcpy(&size, frame->payload, sizeof size);
  if (!run.command.has_terminal) return "the command has no terminal";
  if (run.output.fd >= 0) terminal_resize(run.output.fd, size.rows, size.columns);
  return NULL;
}

/* Returns NULL, or how the host broke the protocol. */
static const char *take_frame(const struct frame *frame) {
  bool is_input = frame->type == FRAME_STDIN || frame->type == FRAME_STDIN_END;
  if (is_input && run.flags & EXEC_FLAG_NO_STDIN) return "the command has no stdin";
  switch (frame->type) {
    case FRAME_STDIN:
      return input_take(&run.input, frame->payload, frame->length);
    case FRAME_STDIN_END:
      return input_end(&run.input);
    case FRAME_RESIZE:
      return take_resize(frame);
    case FRAME_SIGNAL:
      return take_signal(frame);
    default:
      return "the command runs already";
  }
}

static void take_frames(void) {
  struct frame frame;
  enum frame_found found;
  while ((found = channel_next(run.channel, &frame)) == FRAME_FOUND_WHOLE) {
    const char *wrong = take_frame(&frame);
    if (wrong) break_protocol(wrong);
  }
  if (found == FRAME_FOUND_REFUSED) break_protocol("unknown frame");
}

static void note_end(int status, const struct rusage *usage) {
  run.has_ended = true;
  run.wait_status = status;
  run.usage = *usage;
  run.wall_us = now_us() - run.began_us;
  run.drained_at = now_ms() + DRAIN_MS;
  /* It was in time. Only a wait for others' output still has that limit. */
  if (!(run.flags & EXEC_FLAG_WAIT_OUTPUT)) run.ending.timeout_at = NEVER;
  output_note_owed(&run.output);
  output_note_owed(&run.errors);
}

/* Reaps the command, and whatever of it lost its parent. */
static void reap(void) {
  int status;
  struct rusage usage;
  pid_t pid;
  while ((pid = wait4(-1, &status, WNOHANG, &usage)) > 0)
    if (pid == run.command.pid) note_end(status, &usage);
  run.is_alone = pid < 0 && errno == ECHILD;
}

static void take_children(void) {
  struct signalfd_siginfo info;
  while (read(run.children, &info, sizeof info) > 0) continue;
  reap();
}

static void take_report(void) {
  static struct refusal refusal;
  struct frame_started started = {.pid = (uint32_t)run.command.pid};
  int report = command_report(&run.command, &refusal);
  if (report == 0) return;
  run.runs = report > 0;
  if (run.runs) {
    channel_put(run.channel, FRAME_STARTED, &started, sizeof started, NULL, 0);
    return;
  }
  group_remove(&run.group);
  channel_put_error(run.channel, refusal.code, refusal.error_number, refusal.text);
  session_end(run.session);
}

/* Whether all output was read, or what is left isn't the command's. */
static bool is_drained(void) {
  if (run.output.fd < 0 && run.errors.fd < 0) return true;
  if (!run.has_ended || run.flags & EXEC_FLAG_WAIT_OUTPUT || now_ms() < run.drained_at) return false;
  return run.output.owed + run.errors.owed == 0;
}

/* Whether what a signal was sent to has ended: all of it once its time was over. */
static bool is_over(void) {
  /* What the command wrote isn't given up: only the host is slow to take it. */
  bool is_owed = run.has_ended && !run.channel->broken && run.output.owed + run.errors.owed > 0;
  if (run.ending.is_given_up && !is_owed) return true;
  if (run.channel->broken && !must_keep()) return run.is_alone;
  bool is_reported = run.command.report < 0;
  if (!is_reported || !run.has_ended || (run.ending.is_timed_out && !run.is_alone)) return false;
  return run.channel->broken || is_drained();
}

static uint64_t microseconds(struct timeval time) {
  return (uint64_t)time.tv_sec * 1000000 + (uint64_t)time.tv_usec;
}

static void put_exited(void) {
  bool is_held = run.output.fd >= 0 || run.errors.fd >= 0;
  int signal = WIFSIGNALED(run.wait_status) ? WTERMSIG(run.wait_status) : 0;
  struct frame_exited exited = {
      .status = signal ? 128 + signal : WEXITSTATUS(run.wait_status),
      .signal = (uint8_t)signal,
      .flags = (uint8_t)((run.ending.is_timed_out ? EXITED_FLAG_TIMED_OUT : 0) | (is_held ? EXITED_FLAG_OUTPUT_HELD : 0)),
      .user_microseconds = microseconds(run.usage.ru_utime),
      .system_microseconds = microseconds(run.usage.ru_stime),
      .wall_microseconds = (uint64_t)run.wall_us,
      .peak_kib = (uint64_t)run.usage.ru_maxrss,
  };
  channel_put(run.channel, FRAME_EXITED, &exited, sizeof exited, NULL, 0);
}

static _Noreturn void finish(void) {
  if (run.has_ended) put_exited();
  else channel_put_error(run.channel, AGENT_ERROR_SYSTEM, 0, "the command doesn't end, even after KILL");
  group_remove(&run.group);
  session_end(run.session);
}

enum { AT_CHANNEL, AT_CHILDREN, AT_REPORT, AT_INPUT, AT_OUTPUT, AT_ERRORS, AT_COUNT };

static int64_t next_deadline(void) {
  int64_t next = ending_next(&run.ending);
  bool has_drain = run.has_ended && run.runs && now_ms() < run.drained_at;
  return has_drain && run.drained_at < next ? run.drained_at : next;
}

/* Waits for whatever comes next. A descriptor that isn't wanted now is left out: its end would wake us for nothing. */
static void wait_for_events(struct pollfd *at) {
  bool has_output = run.channel->out_start < run.channel->out_end;
  at[AT_CHANNEL] = (struct pollfd){.fd = run.channel->fd, .events = POLLIN | (has_output ? POLLOUT : 0)};
  at[AT_CHILDREN] = (struct pollfd){.fd = run.children, .events = POLLIN};
  at[AT_REPORT] = (struct pollfd){.fd = run.command.report, .events = POLLIN};
  at[AT_INPUT] = (struct pollfd){.fd = input_has_bytes(&run.input) ? run.input.fd : -1, .events = POLLOUT};
  at[AT_OUTPUT] = (struct pollfd){.fd = output_wants_bytes(&run.output, run.channel) ? run.output.fd : -1, .events = POLLIN};
  at[AT_ERRORS] = (struct pollfd){.fd = output_wants_bytes(&run.errors, run.channel) ? run.errors.fd : -1, .events = POLLIN};
  if (poll(at, AT_COUNT, until_ms(next_deadline())) < 0)
    for (int i = 0; i < AT_COUNT; i++) at[i].revents = 0;
}

static void handle_events(const struct pollfd *at) {
  if (at[AT_CHILDREN].revents) take_children();
  if (at[AT_REPORT].revents) take_report();
  if (at[AT_CHANNEL].revents & ~POLLOUT) channel_fill(run.channel);
  take_frames();
  if (at[AT_INPUT].revents) input_write(&run.input);
  /* Before the command runs, `started` is the first word. */
  if (run.runs && (at[AT_OUTPUT].revents || run.has_ended)) output_read(&run.output, run.channel);
  if (run.runs && (at[AT_ERRORS].revents || run.has_ended)) output_read(&run.errors, run.channel);
  if (run.runs) input_credit(&run.input, run.channel);
  channel_flush(run.channel);
}

static void start(struct session *session, struct request *request) {
  static struct refusal refusal;
  sigset_t child;
  sigemptyset(&child);
  sigaddset(&child, SIGCHLD);
  sigprocmask(SIG_BLOCK, &child, NULL);
  run.session = session;
  run.channel = &session->channel;
  run.flags = request->exec.flags;
  run.children = signalfd(-1, &child, SFD_NONBLOCK | SFD_CLOEXEC);
  run.began_us = now_us();
  group_make(&run.group);
  ending_begin(&run.ending, request->exec.timeout_ms, request->exec.kill_after_ms);
  if (!command_start(&run.command, request, &run.group, &refusal)) {
    group_remove(&run.group);
    channel_put_error(run.channel, refusal.code, refusal.error_number, refusal.text);
    session_end(session);
  }
  input_open(&run.input, run.command.input, run.command.has_terminal);
  run.output = (struct output){.fd = run.command.output, .type = FRAME_STDOUT};
  run.errors = (struct output){.fd = run.command.errors, .type = FRAME_STDERR};
}

_Noreturn void exec_run(struct session *session, struct request *request) {
  struct pollfd at[AT_COUNT];
  start(session, request);
  for (bool is_lost = false;;) {
    wait_for_events(at);
    handle_events(at);
    ending_act(&run.ending, &run.group);
    if (run.channel->broken && !is_lost) {
      is_lost = true;
      lose_channel();
    }
    if (is_over()) finish();
  }
}
