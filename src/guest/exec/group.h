/*
 * Everything that one exec started. With cgroup v2 that is a cgroup of its own, which forking doesn't leave. A login service may
 * move a process out of it, and a guest may have no cgroup v2: so the session's descendants count too. Since the session is a
 * subreaper (prctl(2)), a process whose parent has ended stays one.
 */
#ifndef BANGER_GROUP_H
#define BANGER_GROUP_H

#include <stdbool.h>
#include <sys/types.h>

struct exec_group {
  /* The cgroup's directory; -1 where there is none. */
  int directory;
  char path[96];
};

/* Puts this process into the agent's own cgroup, if there can be one: an init that tidies up its own leaves it alone. */
void group_join_agents(void);

/* Makes this process a subreaper, and the exec's cgroup if there can be one. */
void group_make(struct exec_group *group);
/* Forks a child into the cgroup. -1, with errno, like fork. */
pid_t group_fork(const struct exec_group *group);
/* Signals everything of the exec. */
void group_signal(const struct exec_group *group, int number);
/* Removes the cgroup if nothing is left in it. */
void group_remove(struct exec_group *group);
/* Kills what a session left that was itself killed: as far as it is in the cgroup. */
void group_kill_orphans(pid_t session);
/* Removes the cgroups of earlier execs in which nothing is left. */
void group_sweep(void);

#endif
