/* Running a command for the host, from its start to its last word. */
#ifndef BANGER_RUN_H
#define BANGER_RUN_H

#include "exec/request.h"
#include "session/session.h"

/* Runs it and ends the session and the process. */
_Noreturn void exec_run(struct session *session, struct request *request);

#endif
