/* The parts of the guest's boot. Paths are those of the new root from switch_root on. */
#ifndef BANGER_BOOT_PARTS_H
#define BANGER_BOOT_PARTS_H

#include <limits.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/* What the boot found out, for the sessions: the server inherits it. All false where the agent didn't boot the guest. */
struct boot_result {
  bool work_disk;
  bool is_init;
  bool init_is_systemd;
};
extern struct boot_result boot_result;

/* init.c */

/* Writes a line to the guest's console, behind "banger: ". */
void say(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* files.c */

/* Waits 20 ms, for which `tries` counts, and says whether the caller should look again: for 10 s at most. */
bool wait_a_little(int *tries);
/* Makes a directory and those above it; one that exists stays as it is. 0, or -1 and errno. */
int make_directories(const char *path, mode_t mode);
/* Writes a new file in place of what was there. 0, or -1 and errno. */
int write_file(const char *path, const char *text);
/* Reads the start of a regular file (or of one of /proc and /sys) and ends it with a NUL. Bytes read, or -1 and errno. */
ssize_t read_start(const char *path, char *buffer, size_t size);
/* Removes everything in a directory that is on the same file system, and closes the descriptor. */
void remove_contents(int directory);

/* cmdline.c */

struct boot_words {
  char root[PATH_MAX];
  char root_type[32];
  char init[PATH_MAX];
  bool has_init;
  char ip[256];
  char hostname[65];
};
/* Reads /proc/cmdline's text. Words that are too long are ignored; of several with one key the last counts. */
void read_words(const char *text, struct boot_words *words);

struct network_setting {
  char device[IFNAMSIZ];
  struct in_addr client, netmask, gateway, dns;
  bool has_gateway, has_dns;
};
/* Reads CLIENT::GATEWAY:NETMASK::DEVICE:off:DNS. False where an address isn't one. */
bool read_network_setting(const char *ip, struct network_setting *setting);

/* untar.c */

enum tar_part { TAR_OWN, TAR_FILES };
/*
 * Unpacks the identity disk from where `archive` stands into the directory `target`: of TAR_FILES what is below root/, of TAR_OWN the
 * rest. Nothing lands outside the target, and nothing is written through a link. False, after saying why.
 */
bool untar(int archive, int target, enum tar_part part);

/* modules.c, mounts.c */

/* Loads each module of /modules in the order of their names. */
void load_modules(void);
/* /dev, /proc and /sys, while the initrd is the root. False, after saying why. */
bool mount_initrd(void);
/* Mounts the root disk and makes it the root; the initrd's files are gone then. False, after saying why. */
bool switch_root(const struct boot_words *words);
/* What an init would mount first, with systemd's own options, so that it finds them done. */
void mount_basics(void);

/* The boot's jobs, each as the image's own script does it; true when it is done, so that the script needn't. */

/* identity.c: keys and what else the host tells, to /run/banger. */
bool set_identity(void);
/* work.c: the work disk on /root. */
bool mount_work_disk(void);
/* network.c: address, route and name server. */
bool set_network(const struct boot_words *words);
void bring_up_loopback(void);

/* systemd.c */

/* Keeps a unit of the image from doing a job that is done. */
void note_done(const char *job);
/* /tmp in memory, where systemd would mount it over what the first commands wrote. The options are those of its tmp.mount. */
void mount_tmp(void);
/* /run/lock, which systemd-tmpfiles makes (and gives the image's own mode) after the first commands ran. */
void make_lock_directory(void);
/* Empties /tmp now where systemd would do so after the first commands ran. */
void clear_tmp(void);

/* plain-init.c */

/* What an init does in a guest whose image has none. */
_Noreturn void run_plain_init(void);

#endif
