#include "exec/request.h"

#include <string.h>

static const uint32_t KNOWN_FLAGS =
    EXEC_FLAG_TERMINAL | EXEC_FLAG_LOGIN | EXEC_FLAG_NO_STDIN | EXEC_FLAG_KEEP | EXEC_FLAG_WAIT_OUTPUT;

static const char *append(char *area, size_t room, size_t *held, const struct frame *frame, const char *too_long) {
  if (frame->length > room - *held) return too_long;
  memcpy(area + *held, frame->payload, frame->length);
  *held += frame->length;
  return NULL;
}

static const char *set_text(char *text, size_t room, size_t *held, const struct frame *frame, const char *wrong) {
  if (*held > 0 || frame->length == 0 || frame->length > room || memchr(frame->payload, 0, frame->length)) return wrong;
  memcpy(text, frame->payload, frame->length);
  text[frame->length] = 0;
  *held = frame->length;
  return NULL;
}

const char *request_take(struct request *request, const struct frame *frame) {
  switch (frame->type) {
    case FRAME_ARGUMENT:
      return append(request->arguments, sizeof request->arguments, &request->arguments_bytes, frame,
                    "the arguments are too long");
    case FRAME_VARIABLE:
      return append(request->variables, sizeof request->variables, &request->variables_bytes, frame,
                    "the variables are too long");
    case FRAME_DIRECTORY:
      return set_text(request->directory, LIMIT_DIRECTORY_BYTES, &request->directory_bytes, frame,
                      "the directory's name is too long, empty, or given twice");
    case FRAME_USER:
      return set_text(request->user, LIMIT_USER_BYTES, &request->user_bytes, frame,
                      "the user's name is too long, empty, or given twice");
    default:
      return "this frame needs a running command";
  }
}

bool request_has_begun(const struct request *request) {
  return request->arguments_bytes + request->variables_bytes + request->directory_bytes + request->user_bytes > 0;
}

char *next_text(char *area, size_t bytes, char *text) {
  char *next = text ? text + strlen(text) + 1 : area;
  return next < area + bytes ? next : NULL;
}

static bool ends_with_nul(const char *area, size_t bytes) {
  return bytes == 0 || area[bytes - 1] == 0;
}

const char *request_check(const struct request *request) {
  if (request->exec.flags & ~KNOWN_FLAGS) return "exec has an unknown flag";
  if (!ends_with_nul(request->arguments, request->arguments_bytes)) return "the last argument has no end";
  if (!ends_with_nul(request->variables, request->variables_bytes)) return "the last variable has no end";
  if (request->arguments_bytes == 0 && !(request->exec.flags & EXEC_FLAG_LOGIN)) return "there is no command";
  char *variables = (char *)request->variables;
  for (char *text = NULL; (text = next_text(variables, request->variables_bytes, text));)
    if (*text == '=' || !strchr(text, '=')) return "a variable has no name";
  return NULL;
}
