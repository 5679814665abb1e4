#include "server.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/inotify.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

/* Before Linux 6.2, it needs what is above. */
#include <linux/vm_sockets.h>

#include "deadline.h"
#include "exec/group.h"
#include "lines.h"
#include "serve/ports.h"
#include "session/session.h"

enum {
  /* At once, those included whose host is gone while their command still ends. */
  SESSIONS = 256,
  READ_BYTES = 16384,
  /* Then it's the other ports' turn. */
  READS = 16,
  BACKLOG = 64,
  /* While there is no way in at all: the devices, or /dev itself, may still come. */
  RETRY_MS = 500,
  /* While a port isn't complete: so often after each change in /dev. */
  PORT_RETRY_MS = 20,
  PORT_TRIES = 100,
  /* How long it leaves a connection alone that the kernel has no memory for. */
  PAUSE_MS = 100,
};

/* What an epoll event is of. A port's own events have its number; those of its session have it behind RETURNED. */
enum { PORT = 0, RETURNED = PORTS, CHILDREN = 2 * PORTS, DEVICES, LISTENER };

static struct {
  int epoll, children, devices, listener;
  bool is_vsock;
  int port_tries;
  size_t sessions;
  struct port ports[PORTS];
} server = {.epoll = -1, .children = -1, .devices = -1, .listener = -1};

static void watch(int fd, uint32_t events, uint32_t what) {
  struct epoll_event event = {.events = events, .data.u32 = what};
  if (epoll_ctl(server.epoll, EPOLL_CTL_ADD, fd, &event) != 0) errno = 0;
}

static void close_if_open(int *fd) {
  if (*fd >= 0) close(*fd);
  *fd = -1;
}

/* A session that was just forked may still have it, and then its events would go on. */
static void unwatch(int fd) {
  if (fd >= 0) epoll_ctl(server.epoll, EPOLL_CTL_DEL, fd, NULL);
}

/* In a session's process: keeps none of the server's descriptors but the session's own. */
static void leave_server(int kept) {
  close_if_open(&server.epoll);
  close_if_open(&server.children);
  close_if_open(&server.devices);
  close_if_open(&server.listener);
  for (size_t i = 0; i < PORTS; i++) {
    if (server.ports[i].fd != kept) close_if_open(&server.ports[i].fd);
    close_if_open(&server.ports[i].returned);
  }
}

/* A port's events come once for each change: a port without a host is always "readable". */
static void watch_port(size_t number) {
  watch(server.ports[number].fd, EPOLLIN | EPOLLET, PORT + (uint32_t)number);
}

static void close_port(size_t number) {
  unwatch(server.ports[number].fd);
  close_if_open(&server.ports[number].fd);
}

/* Says at once that there is no room for a session. The host may miss it: its own deadline then ends its wait. */
static void refuse_session(const struct port *port) {
  static const char why[] = "too many sessions";
  static struct channel channel;
  uint8_t answer[ANSWER_BYTES];
  channel_open(&channel, port->fd, NULL, 0);
  hello_answer(&port->hello, answer);
  channel_put_raw(&channel, answer, sizeof answer);
  channel_put_error(&channel, AGENT_ERROR_SYSTEM, EAGAIN, why);
  channel_flush(&channel);
}

/* Gives the port to a session for its hello. `bytes` came after that. False if there can be no session now. */
static bool start_session(size_t number, const uint8_t *bytes, size_t length) {
  struct port *port = &server.ports[number];
  struct hello hello = port->hello;
  int ends[2];
  if (server.sessions == SESSIONS || pipe2(ends, O_CLOEXEC | O_NONBLOCK) != 0) return false;
  pid_t pid = fork();
  if (pid == 0) {
    int fd = port->fd;
    leave_server(fd);
    close(ends[0]);
    session_run(fd, &hello, bytes, length, ends[1]);
  }
  close(ends[1]);
  if (pid < 0) {
    close(ends[0]);
    return false;
  }
  server.sessions++;
  unwatch(port->fd);
  port->returned = ends[0];
  watch(port->returned, EPOLLIN, RETURNED + (uint32_t)number);
  return true;
}

/* Looks for a hello. Returns whether a session has the port now. */
static bool take_bytes(size_t number, const uint8_t *bytes, size_t length) {
  struct port *port = &server.ports[number];
  while (length > 0) {
    size_t taken = hello_take(&port->hello, bytes, length);
    bytes += taken;
    length -= taken;
    if (!hello_is_whole(&port->hello)) continue;
    bool is_taken = start_session(number, bytes, length);
    if (!is_taken) refuse_session(port);
    port->hello.held = 0;
    if (is_taken) return true;
  }
  return false;
}

/* Reads a port empty, as edge-triggered events ask for, or has the event come again. */
static void read_port(size_t number) {
  static uint8_t bytes[READ_BYTES];
  struct port *port = &server.ports[number];
  for (int reads = 0; reads < READS; reads++) {
    ssize_t got = read(port->fd, bytes, sizeof bytes);
    if (got > 0 && take_bytes(number, bytes, (size_t)got)) return;
    if (got > 0 || (got < 0 && errno == EINTR)) continue;
    /* 0: there is no host on the other side. An error but EAGAIN: the device is gone. */
    if (got < 0 && errno != EAGAIN) close_port(number);
    return;
  }
  unwatch(port->fd);
  watch_port(number);
}

/* Says the last word of a session whose process was killed: on a port, the host sees nothing of that end. */
static void end_session(const struct port *port) {
  static const char why[] = "the session was killed";
  static struct channel channel;
  channel_open(&channel, port->fd, NULL, 0);
  channel_put_error(&channel, AGENT_ERROR_SYSTEM, 0, why);
  channel_flush(&channel);
}

/* A session gives its port back, with what came for the next one; or its process ended without a word. */
static void take_port_back(size_t number) {
  struct port *port = &server.ports[number];
  uint8_t bytes[RETURNED_BYTES];
  ssize_t got = read(port->returned, bytes, sizeof bytes);
  if (got < 0 && (errno == EINTR || errno == EAGAIN)) return;
  unwatch(port->returned);
  close_if_open(&port->returned);
  port->hello.held = 0;
  if (got == 0) end_session(port);
  bool is_taken = got > 1 && take_bytes(number, bytes + 1, (size_t)got - 1);
  if (!is_taken) watch_port(number);
}

/* Only the host may connect: through the guest's own loopback, every process in it could. */
static bool is_host(int connection) {
  struct sockaddr_vm peer = {0};
  socklen_t length = sizeof peer;
  if (!server.is_vsock) return true;
  return getpeername(connection, (struct sockaddr *)&peer, &length) == 0 && peer.svm_family == AF_VSOCK &&
         peer.svm_cid == VMADDR_CID_HOST;
}

static void accept_connections(void) {
  /* Then it is the others' turn: the event comes again. */
  for (int taken = 0; taken < BACKLOG; taken++) {
    int connection = accept4(server.listener, NULL, NULL, SOCK_CLOEXEC);
    if (connection < 0 && (errno == EINTR || errno == ECONNABORTED)) continue;
    if (connection < 0 && errno != EAGAIN) poll(NULL, 0, PAUSE_MS);
    if (connection < 0) return;
    pid_t pid = is_host(connection) && server.sessions < SESSIONS ? fork() : -1;
    if (pid == 0) {
      leave_server(-1);
      for (size_t i = 0; i < PORTS; i++) close_if_open(&server.ports[i].fd);
      session_accept(connection);
    }
    if (pid > 0) server.sessions++;
    close(connection);
  }
}

static void take_children(void) {
  struct signalfd_siginfo info;
  while (read(server.children, &info, sizeof info) > 0) continue;
  bool has_ended = false;
  int status;
  for (pid_t pid; (pid = waitpid(-1, &status, WNOHANG)) > 0; has_ended = true) {
    server.sessions--;
    if (WIFSIGNALED(status)) group_kill_orphans(pid);
  }
  if (has_ended) group_sweep();
}

static void listen_on_vsock(void) {
  struct sockaddr_vm address = {.svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_ANY, .svm_port = AGENT_VSOCK_PORT};
  if (server.listener >= 0) return;
  int listener = socket(AF_VSOCK, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (listener < 0) return;
  if (bind(listener, (struct sockaddr *)&address, sizeof address) != 0 || listen(listener, BACKLOG) != 0) {
    close(listener);
    return;
  }
  server.is_vsock = true;
  server.listener = listener;
  watch(listener, EPOLLIN, LISTENER);
}

/* Opens the ways in that are new. */
static void find_devices(void) {
  bool may_be_more = ports_find(server.ports, watch_port);
  server.port_tries = may_be_more ? server.port_tries - 1 : 0;
  listen_on_vsock();
}

static void take_changes(void) {
  static char bytes[4096];
  while (read(server.devices, bytes, sizeof bytes) > 0) continue;
  server.port_tries = PORT_TRIES;
  find_devices();
}

static bool has_way_in(void) {
  for (size_t i = 0; i < PORTS; i++)
    if (server.ports[i].fd >= 0) return true;
  return server.listener >= 0;
}

static void handle_event(uint32_t what) {
  if (what < RETURNED) read_port(what);
  else if (what < CHILDREN) take_port_back(what - RETURNED);
  else if (what == CHILDREN) take_children();
  else if (what == DEVICES) take_changes();
  else accept_connections();
}

/* Known by its name, the last one to be killed when memory is short, and in no cgroup of init's. */
static void mark_process(void) {
  prctl(PR_SET_NAME, "banger-agent");
  write_text("/proc/self/oom_score_adj", "-900");
  group_join_agents();
}

static void prepare(void) {
  sigset_t child;
  sigemptyset(&child);
  sigaddset(&child, SIGCHLD);
  sigprocmask(SIG_BLOCK, &child, NULL);
  signal(SIGPIPE, SIG_IGN);
  ports_clear(server.ports);
  server.epoll = epoll_create1(EPOLL_CLOEXEC);
  server.children = signalfd(-1, &child, SFD_NONBLOCK | SFD_CLOEXEC);
  watch(server.children, EPOLLIN, CHILDREN);
}

/* When to look for devices again, if that was planned for then. */
static int64_t plan_look(int64_t planned) {
  bool must_look = server.devices >= 0 && (server.port_tries > 0 || !has_way_in());
  if (!must_look) return NEVER;
  return planned != NEVER ? planned : now_ms() + (server.port_tries > 0 ? PORT_RETRY_MS : RETRY_MS);
}

static _Noreturn void serve(void) {
  struct epoll_event events[16];
  for (int64_t look_at = NEVER;;) {
    look_at = plan_look(look_at);
    int count = epoll_wait(server.epoll, events, sizeof events / sizeof *events, until_ms(look_at));
    for (int i = 0; i < count; i++) handle_event(events[i].data.u32);
    if (now_ms() < look_at) continue;
    look_at = NEVER;
    /* Another file system may have been mounted there. */
    inotify_add_watch(server.devices, "/dev", IN_CREATE);
    find_devices();
  }
}

_Noreturn void server_main(void) {
  mark_process();
  prepare();
  server.devices = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
  inotify_add_watch(server.devices, "/dev", IN_CREATE);
  watch(server.devices, EPOLLIN, DEVICES);
  take_changes();
  serve();
}

#ifdef BANGER_FOR_TESTS
_Noreturn void server_listen(int listener) {
  prepare();
  server.listener = listener;
  fcntl(listener, F_SETFL, O_NONBLOCK);
  watch(listener, EPOLLIN, LISTENER);
  serve();
}

_Noreturn void server_serve_port(int fd) {
  prepare();
  server.ports[0] = (struct port){.fd = fd, .returned = -1};
  fcntl(fd, F_SETFL, O_NONBLOCK);
  watch_port(0);
  serve();
}
#endif
