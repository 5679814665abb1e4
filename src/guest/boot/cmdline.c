/* The kernel's arguments that concern the boot. Source: Documentation/admin-guide/nfs/nfsroot.rst for ip=. */
#include <arpa/inet.h>
#include <string.h>

#include "boot/parts.h"

/* Copies a word's value where the word has this key and the value fits. */
static bool take(const char *word, size_t length, const char *key, char *into, size_t size) {
  size_t key_length = strlen(key);
  if (length < key_length || memcmp(word, key, key_length) != 0) return false;
  word += key_length;
  length -= key_length;
  if (length >= 2 && word[0] == '"' && word[length - 1] == '"') {
    word++;
    length -= 2;
  }
  if (length >= size) return false;
  memcpy(into, word, length);
  into[length] = '\0';
  return true;
}

static void read_word(const char *word, size_t length, struct boot_words *words) {
  take(word, length, "root=", words->root, sizeof words->root);
  take(word, length, "rootfstype=", words->root_type, sizeof words->root_type);
  take(word, length, "systemd.hostname=", words->hostname, sizeof words->hostname);
  if (take(word, length, "init=", words->init, sizeof words->init)) words->has_init = true;
  /* Without a colon it names a way to ask for an address, such as "dhcp". */
  if (memchr(word, ':', length)) take(word, length, "ip=", words->ip, sizeof words->ip);
}

void read_words(const char *text, struct boot_words *words) {
  *words = (struct boot_words){.root = "/dev/vda", .root_type = "ext4", .init = "/sbin/init"};
  while (*text != '\0') {
    text += strspn(text, " \t\n");
    bool quoted = false;
    size_t length = 0;
    for (; text[length] != '\0' && (quoted || !strchr(" \t\n", text[length])); length++) {
      if (text[length] == '"') quoted = !quoted;
    }
    /* The rest is for init. */
    if (length == 2 && memcmp(text, "--", 2) == 0) return;
    read_word(text, length, words);
    text += length;
  }
}

bool read_network_setting(const char *ip, struct network_setting *setting) {
  enum { CLIENT, SERVER, GATEWAY, NETMASK, HOSTNAME, DEVICE, AUTOCONF, DNS, FIELDS };
  char text[256];
  char *fields[FIELDS];
  if (strlen(ip) >= sizeof text) return false;
  strcpy(text, ip);
  char *rest = text;
  for (int field = 0; field < FIELDS; field++) {
    char *value = rest ? strsep(&rest, ":") : NULL;
    fields[field] = value ? value : "";
  }
  *setting = (struct network_setting){.device = "eth0"};
  if (inet_pton(AF_INET, fields[CLIENT], &setting->client) != 1) return false;
  if (inet_pton(AF_INET, fields[NETMASK], &setting->netmask) != 1) return false;
  setting->has_gateway = *fields[GATEWAY] != '\0';
  if (setting->has_gateway && inet_pton(AF_INET, fields[GATEWAY], &setting->gateway) != 1) return false;
  setting->has_dns = *fields[DNS] != '\0';
  if (setting->has_dns && inet_pton(AF_INET, fields[DNS], &setting->dns) != 1) return false;
  if (strlen(fields[DEVICE]) >= sizeof setting->device || strchr(fields[DEVICE], '/')) return false;
  if (*fields[DEVICE] != '\0') strcpy(setting->device, fields[DEVICE]);
  return true;
}
