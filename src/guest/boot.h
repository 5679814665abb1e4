/* The guest's boot: what the agent does as the initrd's first process. */
#ifndef BANGER_BOOT_H
#define BANGER_BOOT_H

/* Boots the guest and becomes its init. Called as process 1; returns only when it can't, with an exit status. */
int boot_main(void);

#endif
