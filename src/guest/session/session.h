/* A session: one request of the host, in a process of its own. */
#ifndef BANGER_SESSION_H
#define BANGER_SESSION_H

#include "serve/hello.h"
#include "session/channel.h"

struct session {
  struct channel channel;
  /* Tells the server that the channel is free, and what came for the next session; -1 if the channel ends with this one. */
  int returned;
};

/* What is written to `returned`: a first byte without meaning, then a whole hello or none, then the beginning of another. */
enum { RETURNED_BYTES = 1 + 2 * HELLO_BYTES };

/* Answers the hello, serves one request and ends the process. `bytes` came after the hello. */
_Noreturn void session_run(int fd, const struct hello *hello, const uint8_t *bytes, size_t length, int returned);
/* The same where nothing was read yet: waits for the hello first, but not for ever. */
_Noreturn void session_accept(int fd);

/* Gives the channel back, before the process ends: what it started may take its time to end. */
void session_release(struct session *session);
/* Ends the session after its last word. */
_Noreturn void session_end(struct session *session);
/* Ends the session because the host broke the protocol. */
_Noreturn void session_refuse(struct session *session, const char *why);

#endif
