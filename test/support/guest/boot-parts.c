/*
 * Parts of the guest's boot, to be run on this host with sanitizers (test/unit/guest/boot-parts.test.ts):
 *   untar own|files DIRECTORY   unpacks stdin
 *   words                       reads a kernel's arguments from stdin and prints what was found
 *   clear DIRECTORY             empties a directory
 */
#include <arpa/inet.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "boot/parts.h"

/* In the guest, a line on the console. */
void say(const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  fputs("banger: ", stderr);
  vfprintf(stderr, format, arguments);
  fputs("\n", stderr);
  va_end(arguments);
}

static int unpack(const char *part, const char *directory) {
  int target = open(directory, O_RDONLY | O_DIRECTORY);
  if (target == -1) return 2;
  return untar(STDIN_FILENO, target, strcmp(part, "files") == 0 ? TAR_FILES : TAR_OWN) ? 0 : 1;
}

static void print_address(const char *name, bool is_there, struct in_addr address) {
  char text[INET_ADDRSTRLEN];
  printf("%s=%s\n", name, is_there ? inet_ntop(AF_INET, &address, text, sizeof text) : "");
}

static int print_words(void) {
  static char text[16384];
  static struct boot_words words;
  struct network_setting setting;
  text[fread(text, 1, sizeof text - 1, stdin)] = '\0';
  read_words(text, &words);
  printf("root=%s\ntype=%s\ninit=%s\nasked=%d\nhostname=%s\n", words.root, words.root_type, words.init, words.has_init,
         words.hostname);
  if (!read_network_setting(words.ip, &setting)) return 0;
  printf("device=%s\n", setting.device);
  print_address("client", true, setting.client);
  print_address("netmask", true, setting.netmask);
  print_address("gateway", setting.has_gateway, setting.gateway);
  print_address("dns", setting.has_dns, setting.dns);
  return 0;
}

int main(int count, char **arguments) {
  if (count == 4 && strcmp(arguments[1], "untar") == 0) return unpack(arguments[2], arguments[3]);
  if (count == 2 && strcmp(arguments[1], "words") == 0) return print_words();
  if (count == 3 && strcmp(arguments[1], "clear") == 0) {
    int directory = open(arguments[2], O_RDONLY | O_DIRECTORY);
    if (directory == -1) return 2;
    remove_contents(directory);
    return 0;
  }
  return 2;
}
