#include "exec/environment.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "lines.h"

enum { LOGIN_VARIABLES = 256, LOGIN_BYTES = 65536 };

static const char DEFAULT_PATH[] = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/* Where users' own programs are: put in front of PATH if they exist. */
static const char *const HOME_PROGRAMS[] = {".local/bin", ".local/share/mise/shims"};

static char login_area[LOGIN_BYTES];
static size_t login_held;
static char *login[LOGIN_VARIABLES];
static size_t login_count;
/* One more than fit, for the NULL at the end. A variable has at least a sign and a NUL. */
static char *environment[LOGIN_VARIABLES + LIMIT_VARIABLES_BYTES / 2 + 1];

static struct lines lines;

static bool has_name(const char *variable, const char *name, size_t length) {
  return strncmp(variable, name, length) == 0 && variable[length] == '=';
}

/* Sets a variable of the login environment. What doesn't fit is left out. */
static void set_login(const char *name, size_t length, const char *value) {
  size_t bytes = length + strlen(value) + 2;
  if (length == 0 || bytes > sizeof login_area - login_held) return;
  size_t at = 0;
  while (at < login_count && !has_name(login[at], name, length)) at++;
  if (at == LOGIN_VARIABLES) return;
  if (at == login_count) login_count++;
  login[at] = login_area + login_held;
  login_held += (size_t)snprintf(login[at], bytes, "%.*s=%s", (int)length, name, value) + 1;
}

static void set(const char *name, const char *value) {
  set_login(name, strlen(name), value);
}

/* Removes blanks from both ends, and quotes around all of it, as pam_env(8) does. */
static char *trim_value(char *value) {
  value += strspn(value, " \t");
  size_t length = strlen(value);
  while (length > 0 && strchr(" \t\r", value[length - 1])) length--;
  bool is_quoted = length >= 2 && (*value == '"' || *value == '\'') && value[length - 1] == *value;
  if (is_quoted) value[length - 1] = 0;
  else value[length] = 0;
  return is_quoted ? value + 1 : value;
}

/* Reads a file of `NAME=value` lines. */
static void read_variables(const char *path) {
  if (!lines_open(&lines, path)) return;
  for (char *line; (line = lines_next(&lines));) {
    char *name = line + strspn(line, " \t");
    if (strncmp(name, "export ", 7) == 0) name += 7 + strspn(name + 7, " \t");
    char *sign = strchr(name, '=');
    if (*name == '#' || !sign) continue;
    set_login(name, (size_t)(sign - name), trim_value(sign + 1));
  }
}

static const char *get_login(const char *name) {
  for (size_t i = 0; i < login_count; i++)
    if (has_name(login[i], name, strlen(name))) return login[i] + strlen(name) + 1;
  return NULL;
}

/* Puts a directory of the user's home in front of PATH, if it exists. */
static void prepend_home_programs(const char *home, const char *directory) {
  static char path[LOGIN_BYTES];
  struct stat info;
  int length = snprintf(path, sizeof path, "%s/%s", home, directory);
  if (length < 0 || length >= PATH_MAX || stat(path, &info) != 0 || !S_ISDIR(info.st_mode)) return;
  int more = snprintf(path + length, sizeof path - (size_t)length, ":%s", get_login("PATH"));
  if (more > 0 && (size_t)more < sizeof path - (size_t)length) set("PATH", path);
}

static void make_login(const struct account *account) {
  set("PATH", DEFAULT_PATH);
  set("LANG", "C.UTF-8");
  read_variables("/etc/default/locale");
  read_variables("/etc/environment");
  set("HOME", account->home);
  set("SHELL", account->shell);
  if (*account->name) {
    set("USER", account->name);
    set("LOGNAME", account->name);
  }
  for (size_t i = sizeof HOME_PROGRAMS / sizeof *HOME_PROGRAMS; i-- > 0;)
    prepend_home_programs(account->home, HOME_PROGRAMS[i]);
}

static bool is_overridden(const char *variable, struct request *request) {
  size_t length = (size_t)(strchr(variable, '=') - variable);
  for (char *text = NULL; (text = next_text(request->variables, request->variables_bytes, text));)
    if (has_name(text, variable, length)) return true;
  return false;
}

char **environment_make(const struct account *account, struct request *request) {
  size_t count = 0;
  make_login(account);
  for (size_t i = 0; i < login_count; i++)
    if (!is_overridden(login[i], request)) environment[count++] = login[i];
  for (char *text = NULL; (text = next_text(request->variables, request->variables_bytes, text));)
    environment[count++] = text;
  environment[count] = NULL;
  return environment;
}

const char *environment_get(char **from, const char *name) {
  for (; *from; from++)
    if (has_name(*from, name, strlen(name))) return *from + strlen(name) + 1;
  return NULL;
}
