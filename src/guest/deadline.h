/* Time that only goes forward. */
#ifndef BANGER_DEADLINE_H
#define BANGER_DEADLINE_H

#include <stdint.h>

/* A deadline that never comes. */
#define NEVER INT64_MAX

int64_t now_us(void);
int64_t now_ms(void);
/* For poll: how long until the deadline, rounded up, or -1 if it never comes. */
int until_ms(int64_t deadline_ms);

#endif
