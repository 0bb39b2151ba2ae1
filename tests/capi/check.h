/* Checks that count, and shorthand for logs in a scratch directory. Included first, by each test program, once. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "jlog.h"
#include "jlog_io.h"
#include "jlog_private.h"

/* Not every program needs all of this. */
#pragma GCC diagnostic ignored "-Wunused-function"

static unsigned check_count, check_failures;
static const char *check_claim = "";
static const char *check_scratch;

/* What the checks from here on show. */
static void claim(const char *text) {
  check_claim = text;
}

static int check_that(int holds, const char *file, int line, const char *format, ...) {
  va_list arguments;
  check_count++;
  if (holds) return 1;
  check_failures++;
  printf("%s:%d: %s: ", file, line, check_claim);
  va_start(arguments, format);
  vprintf(format, arguments);
  va_end(arguments);
  printf("\n");
  fflush(stdout);
  return 0;
}

static int check_number(long long expected, long long found, const char *what, const char *file, int line) {
  return check_that(expected == found, file, line, "%s: expected %lld, found %lld", what, expected, found);
}

static int check_text(const char *expected, const char *found, const char *what, const char *file, int line) {
  return check_that(found && !strcmp(expected, found), file, line, "%s:\n  expected %s\n  found    %s", what, expected,
                    found ? found : "NULL");
}

/* The context is looked at only where it is needed. */
static int check_result(jlog_ctx *ctx, int code, int result, const char *what, const char *file, int line) {
  if (code == JLOG_ERR_SUCCESS)
    return result == 0 ? check_that(1, file, line, "")
                       : check_that(0, file, line, "%s: expected 0, found %d (%s, errno %d)", what, result,
                                    jlog_ctx_err_string(ctx), jlog_ctx_errno(ctx));
  return check_that(result == -1 && jlog_ctx_err(ctx) == code, file, line, "%s: expected -1 %s, found %d %s", what,
                    jlog_err_string(code), result, jlog_ctx_err_string(ctx));
}

#define CHECK(condition) check_that((condition) ? 1 : 0, __FILE__, __LINE__, "expected %s", #condition)
#define EQUAL(expected, found) check_number((long long)(expected), (long long)(found), #found, __FILE__, __LINE__)
#define TEXT(expected, found) check_text((expected), (found), #found, __FILE__, __LINE__)
#define OK(ctx, call) check_result((ctx), JLOG_ERR_SUCCESS, (call), #call, __FILE__, __LINE__)
#define FAILS(ctx, code, call) check_result((ctx), (code), (call), #call, __FILE__, __LINE__)
#define ID(expected_log, expected_marker, id)                                                                          \
  check_that((id).log == (expected_log) && (id).marker == (expected_marker), __FILE__, __LINE__,                       \
             "%s: expected %08x:%08x, found %08x:%08x", #id, (unsigned)(expected_log), (unsigned)(expected_marker),    \
             (id).log, (id).marker)
#define FILES(expected, path) check_text((expected), files((path)), "files of " #path, __FILE__, __LINE__)

/* Checks of what only this engine does, as libjlog crashes, hangs or damages there, or has no such thing. */
static int reference(void) {
  const char *set = getenv("CAPI_REFERENCE");
  return set && *set && strcmp(set, "0");
}

static void begin(int argc, char **argv) {
  if (argc < 2) {
    fprintf(stderr, "usage: %s SCRATCHDIR\n", argv[0]);
    exit(2);
  }
  check_scratch = argv[1];
  umask(022);
}

static int finish(void) {
  printf("%u checks, %u failures\n", check_count, check_failures);
  return check_failures > 90 ? 90 : (int)check_failures;
}

/* ---- paths and files ---- */

/* A path in the scratch directory; the last 256 are kept. */
static char *at(const char *format, ...) {
  static char paths[256][PATH_MAX];
  static unsigned next;
  char *path = paths[next++ % 256];
  va_list arguments;
  int n = snprintf(path, PATH_MAX, "%s/", check_scratch);
  va_start(arguments, format);
  vsnprintf(path + n, (size_t)(PATH_MAX - n), format, arguments);
  va_end(arguments);
  return path;
}

static char *in(const char *log, const char *name) {
  static char paths[256][PATH_MAX];
  static unsigned next;
  char *path = paths[next++ % 256];
  snprintf(path, PATH_MAX, "%.3000s/%.255s", log, name);
  return path;
}

static int by_name(const struct dirent **a, const struct dirent **b) {
  return strcmp((*a)->d_name, (*b)->d_name);
}

static long long file_size(const char *path) {
  struct stat status;
  return stat(path, &status) ? -1 : (long long)status.st_size;
}

/* "cp.73=8 metastore=16": names in order, with sizes. */
static const char *files(const char *log) {
  static char text[65536];
  struct dirent **names;
  size_t used = 0;
  int i, n = scandir(log, &names, NULL, by_name);
  text[0] = '\0';
  if (n < 0) return "no directory";
  for (i = 0; i < n; i++) {
    if (strcmp(names[i]->d_name, ".") && strcmp(names[i]->d_name, "..") && used < sizeof text - 300)
      used += (size_t)snprintf(text + used, 300, "%s%s=%lld", used ? " " : "", names[i]->d_name,
                               file_size(in(log, names[i]->d_name)));
    free(names[i]);
  }
  free(names);
  return text;
}

static void write_file(const char *path, const void *bytes, size_t length) {
  int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0640);
  if (fd < 0 || write(fd, bytes, length) != (ssize_t)length || close(fd)) {
    perror(path);
    exit(2);
  }
}

/* Up to `room` bytes; how many. */
static size_t read_file(const char *path, void *bytes, size_t room) {
  int fd = open(path, O_RDONLY);
  ssize_t n = fd < 0 ? 0 : read(fd, bytes, room);
  if (fd >= 0) close(fd);
  return n < 0 ? 0 : (size_t)n;
}

static void overwrite(const char *path, long long offset, const void *bytes, size_t length) {
  int fd = open(path, O_WRONLY);
  if (fd < 0 || pwrite(fd, bytes, length, (off_t)offset) != (ssize_t)length || close(fd)) {
    perror(path);
    exit(2);
  }
}

/* stderr goes to a file until the second call. */
static int kept_stderr = -1;
static void catch_stderr(const char *path) {
  int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
  fflush(stderr);
  kept_stderr = dup(2);
  dup2(fd, 2);
  close(fd);
}
static const char *caught_stderr(const char *path) {
  static char text[65536];
  fflush(stderr);
  dup2(kept_stderr, 2);
  close(kept_stderr);
  text[read_file(path, text, sizeof text - 1)] = '\0';
  return text;
}

/* ---- logs ---- */

/* A new log with the subscriber "s". */
static void make_log(const char *path, size_t segment_size) {
  jlog_ctx *ctx = jlog_new(path);
  OK(ctx, jlog_ctx_alter_journal_size(ctx, segment_size));
  OK(ctx, jlog_ctx_init(ctx));
  OK(ctx, jlog_ctx_add_subscriber(ctx, "s", JLOG_BEGIN));
  EQUAL(0, jlog_ctx_close(ctx));
}

static jlog_ctx *writer(const char *path) {
  jlog_ctx *ctx = jlog_new(path);
  OK(ctx, jlog_ctx_open_writer(ctx));
  return ctx;
}

static jlog_ctx *reader(const char *path, const char *subscriber) {
  jlog_ctx *ctx = jlog_new(path);
  OK(ctx, jlog_ctx_open_reader(ctx, subscriber));
  return ctx;
}

static int put(jlog_ctx *ctx, const char *text) {
  return jlog_ctx_write(ctx, text, strlen(text));
}

/* Ten-byte messages "message 01" ... : 26 bytes each in a segment. */
static void put_numbered(jlog_ctx *ctx, int first, int last) {
  char text[32];
  for (; first <= last; first++) {
    snprintf(text, sizeof text, "message %02d", first);
    OK(ctx, put(ctx, text));
  }
}

/* Reads and checkpoints what there is: the messages, each in brackets. A few empty intervals are needed to go over
 * finished segments that hold nothing. */
static const char *drain(jlog_ctx *ctx) {
  static char text[65536];
  size_t used = 0;
  int empty = 0;
  text[0] = '\0';
  while (empty < 3) {
    jlog_id first, last;
    jlog_message message;
    int n = jlog_ctx_read_interval(ctx, &first, &last);
    if (n < 0) return jlog_ctx_err_string(ctx);
    if (n == 0) {
      empty++;
      continue;
    }
    empty = 0;
    for (; n > 0; n--, JLOG_ID_ADVANCE(&first)) {
      if (jlog_ctx_read_message(ctx, &first, &message)) return jlog_ctx_err_string(ctx);
      if (used + message.mess_len + 3 > sizeof text) return "more than fits";
      text[used++] = '[';
      memcpy(text + used, message.mess, message.mess_len);
      used += message.mess_len;
      text[used++] = ']';
      text[used] = '\0';
    }
    if (jlog_ctx_read_checkpoint(ctx, &last)) return jlog_ctx_err_string(ctx);
  }
  return text;
}

/* What a subscriber has yet to read; it has read it then. */
static const char *drained(const char *path, const char *subscriber) {
  jlog_ctx *ctx = jlog_new(path);
  const char *text = jlog_ctx_open_reader(ctx, subscriber) ? jlog_ctx_err_string(ctx) : drain(ctx);
  jlog_ctx_close(ctx);
  return text;
}

/* The names of all subscribers, in order. */
static const char *subscribers(jlog_ctx *ctx) {
  static char text[4096];
  char **names;
  int i, j, n = jlog_ctx_list_subscribers(ctx, &names);
  text[0] = '\0';
  if (n < 0) return "failed";
  CHECK(names[n] == NULL);
  for (i = 0; i < n; i++)
    for (j = i + 1; j < n; j++)
      if (strcmp(names[i], names[j]) > 0) {
        char *swap = names[i];
        names[i] = names[j];
        names[j] = swap;
      }
  for (i = 0; i < n; i++) {
    strcat(text, i ? " " : "");
    strcat(text, names[i]);
  }
  OK(ctx, jlog_ctx_list_subscribers_dispose(ctx, names));
  return text;
}
