/* Gives the interface named in the kernel's argument ip= its address. Source: netdevice(7), rtnetlink's older ioctls. */
#include <arpa/inet.h>
#include <errno.h>
#include <net/route.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "boot/parts.h"

static struct sockaddr to_sockaddr(struct in_addr address) {
  struct sockaddr_in internet = {.sin_family = AF_INET, .sin_addr = address};
  struct sockaddr plain;
  memcpy(&plain, &internet, sizeof plain);
  return plain;
}

static bool bring_up(int control, const char *device) {
  struct ifreq request = {0};
  strcpy(request.ifr_name, device);
  if (ioctl(control, SIOCGIFFLAGS, &request) == -1) return false;
  request.ifr_flags |= IFF_UP;
  return ioctl(control, SIOCSIFFLAGS, &request) == 0;
}

static bool set_address(int control, const struct network_setting *setting) {
  struct ifreq request = {0};
  strcpy(request.ifr_name, setting->device);
  request.ifr_addr = to_sockaddr(setting->client);
  if (ioctl(control, SIOCSIFADDR, &request) == -1) return false;
  request.ifr_netmask = to_sockaddr(setting->netmask);
  return ioctl(control, SIOCSIFNETMASK, &request) == 0;
}

static bool set_route(int control, const struct network_setting *setting) {
  if (!setting->has_gateway) return true;
  struct in_addr any = {INADDR_ANY};
  char device[IFNAMSIZ];
  strcpy(device, setting->device);
  struct rtentry route = {
      .rt_dst = to_sockaddr(any),
      .rt_genmask = to_sockaddr(any),
      .rt_gateway = to_sockaddr(setting->gateway),
      .rt_flags = RTF_UP | RTF_GATEWAY,
      .rt_dev = device,
  };
  return ioctl(control, SIOCADDRT, &route) == 0 || errno == EEXIST;
}

/* A file that somebody made his own stays as it is. */
static bool set_name_server(struct in_addr server) {
  static const char path[] = "/etc/resolv.conf";
  static const char mark[] = "# banger";
  char text[16384], address[INET_ADDRSTRLEN];
  ssize_t length = read_start(path, text, sizeof text);
  if (length == -1 && errno != ENOENT) return true;
  bool is_ours = length == -1 || strncmp(text, mark, sizeof mark - 1) == 0 || strstr(text, "\n# banger");
  /* Container images have an empty file, into which who runs them writes. */
  if (!is_ours && !(boot_result.is_init && length == 0)) return true;
  snprintf(text, sizeof text, "%s\nnameserver %s\n", mark, inet_ntop(AF_INET, &server, address, sizeof address));
  return write_file(path, text) == 0;
}

void bring_up_loopback(void) {
  int control = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (control == -1 || !bring_up(control, "lo")) say("the loopback interface can't be brought up: %s", strerror(errno));
  if (control != -1) close(control);
}

bool set_network(const struct boot_words *words) {
  struct network_setting setting;
  if (*words->ip == '\0') return false;
  if (!read_network_setting(words->ip, &setting)) {
    say("the kernel's argument ip=%s has no addresses", words->ip);
    return false;
  }
  int control = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  int tries = 0;
  while (if_nametoindex(setting.device) == 0 && wait_a_little(&tries)) continue;
  bool done = control != -1 && set_address(control, &setting) && bring_up(control, setting.device) &&
              set_route(control, &setting);
  if (!done) say("%s can't be given its address: %s", setting.device, strerror(errno));
  if (control != -1) close(control);
  if (done && setting.has_dns && !set_name_server(setting.dns)) {
    say("/etc/resolv.conf can't be written: %s", strerror(errno));
    return false;
  }
  return done;
}
