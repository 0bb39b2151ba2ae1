/* What each call answers in each state of a context: table.txt, row by row, each in a process of its own. Deviations
 * stand in differences.txt. */
#include "check.h"

/* ---- states ---- */

static jlog_ctx *a_new_one(const char *path) {
  jlog_ctx *ctx = jlog_new(path);
  jlog_ctx_alter_journal_size(ctx, 1000);
  jlog_ctx_init(ctx);
  jlog_ctx_add_subscriber(ctx, "s", JLOG_BEGIN);
  jlog_ctx_close(ctx);
  return jlog_new(path);
}

static void ten_bytes(jlog_ctx *ctx, int times) {
  while (times--) jlog_ctx_write(ctx, "0123456789", 10);
}

static jlog_ctx *one_with_messages(const char *path) {
  jlog_ctx *ctx = a_new_one(path);
  jlog_ctx_open_writer(ctx);
  ten_bytes(ctx, 3);
  jlog_ctx_close(ctx);
  return jlog_new(path);
}

static jlog_ctx *a_writer(const char *path) {
  jlog_ctx *ctx = a_new_one(path);
  jlog_ctx_open_writer(ctx);
  return ctx;
}

static jlog_ctx *a_writer_with_a_message(const char *path) {
  jlog_ctx *ctx = a_writer(path);
  ten_bytes(ctx, 1);
  return ctx;
}

static jlog_ctx *a_reader(const char *path) {
  jlog_ctx *ctx = a_new_one(path);
  jlog_ctx_open_reader(ctx, "s");
  return ctx;
}

static jlog_ctx *a_reader_with_messages(const char *path) {
  jlog_ctx *ctx = one_with_messages(path);
  jlog_ctx_open_reader(ctx, "s");
  return ctx;
}

static jlog_ctx *a_failed_reader(const char *path) {
  jlog_ctx *ctx = a_new_one(path);
  jlog_ctx_open_reader(ctx, "nosuch");
  return ctx;
}

static jlog_ctx *a_failed_init(const char *path) {
  jlog_ctx *ctx = a_new_one(path);
  errno = 0;
  jlog_ctx_init(ctx);
  return ctx;
}

static jlog_ctx *an_init(const char *path) {
  jlog_ctx *ctx = jlog_new(path);
  jlog_ctx_init(ctx);
  return ctx;
}

static jlog_ctx *no_path(const char *path) {
  return jlog_new(path);
}

static jlog_ctx *a_file(const char *path) {
  write_file(path, "", 0);
  return jlog_new(path);
}

static jlog_ctx *a_directory(const char *path) {
  mkdir(path, 0755);
  return jlog_new(path);
}

static const struct {
  const char *name;
  jlog_ctx *(*make)(const char *path);
} states[] = {
    {"new", a_new_one},
    {"new, three messages", one_with_messages},
    {"writer", a_writer},
    {"writer, one message", a_writer_with_a_message},
    {"reader", a_reader},
    {"reader, three messages", a_reader_with_messages},
    {"failed reader", a_failed_reader},
    {"failed init", a_failed_init},
    {"init", an_init},
    {"no path", no_path},
    {"a file", a_file},
    {"a directory", a_directory},
};

/* ---- calls ---- */

/* The answer to a call, as the table writes it: shared with the process that makes it. */
static char *answer;
#define ANSWER_ROOM 4096

static void say(const char *format, ...) {
  size_t used = strlen(answer);
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(answer + used, ANSWER_ROOM - used, format, arguments);
  va_end(arguments);
}

static void say_id(const char *name, jlog_id id) {
  say(" %s=%08x:%08x", name, id.log, id.marker);
}

/* Results, as the call has left them. */
static void say_result(jlog_ctx *ctx, int rc) {
  say("rc=%d err=%d errno=%d", rc, jlog_ctx_err(ctx), jlog_ctx_errno(ctx));
}

static const jlog_id UNTOUCHED = {0xeeeeeeee, 0xeeeeeeee};

static void advance(jlog_ctx *ctx, uint32_t marker) {
  jlog_id cur = {0, marker}, start = cur, finish = {0, 3};
  say_result(ctx, jlog_ctx_advance_id(ctx, &cur, &start, &finish));
  say_id("cur", cur);
  say_id("start", start);
  say_id("finish", finish);
}

static void read_at(jlog_ctx *ctx, uint32_t log, uint32_t marker, int bulk) {
  jlog_id id = {log, marker};
  jlog_message message;
  say_result(ctx, bulk ? jlog_ctx_bulk_read_messages(ctx, &id, 1, &message)
                       : jlog_ctx_read_message(ctx, &id, &message));
}

static void checkpoint_of(jlog_ctx *ctx, const char *name) {
  jlog_id id = UNTOUCHED;
  say_result(ctx, jlog_get_checkpoint(ctx, name, &id));
  say_id("id", id);
}

static void index_of(jlog_ctx *ctx, uint32_t log) {
  uint32_t marker = 0xeeeeeeee;
  int closed = -1;
  say_result(ctx, jlog_idx_details(ctx, log, &marker, &closed));
  say(" marker=%08x closed=%d", marker, closed);
}

static void make_call(const char *call, jlog_ctx *ctx) {
  jlog_id id = UNTOUCHED, other = UNTOUCHED, one = {0, 1};
  uint32_t number = 0xeeeeeeee;
#define CALL(name) else if (!strcmp(call, name))
#define RESULT(name, expression) CALL(name) say_result(ctx, expression);

  if (0) {
  }
  RESULT("init", jlog_ctx_init(ctx))
  RESULT("open_writer", jlog_ctx_open_writer(ctx))
  RESULT("open_reader s", jlog_ctx_open_reader(ctx, "s"))
  RESULT("open_reader nosuch", jlog_ctx_open_reader(ctx, "nosuch"))
  CALL("write_message") {
    jlog_message message = {.mess = "t000000001", .mess_len = 10};
    struct timeval when = {1, 1};
    say_result(ctx, jlog_ctx_write_message(ctx, &message, &when));
  }
  RESULT("flush_pre_commit_buffer", jlog_ctx_flush_pre_commit_buffer(ctx))
  CALL("read_interval") {
    say_result(ctx, jlog_ctx_read_interval(ctx, &id, &other));
    say_id("start", id);
    say_id("finish", other);
  }
  CALL("read_message 0:1") read_at(ctx, 0, 1, 0);
  CALL("read_message 0:0") read_at(ctx, 0, 0, 0);
  CALL("read_message 5:1") read_at(ctx, 5, 1, 0);
  CALL("bulk_read_messages 0:1") read_at(ctx, 0, 1, 1);
  CALL("bulk_read_messages 5:1") read_at(ctx, 5, 1, 1);
  RESULT("read_checkpoint 0:1", jlog_ctx_read_checkpoint(ctx, &one))
  CALL("last_log_id") {
    say_result(ctx, jlog_ctx_last_log_id(ctx, &id));
    say_id("id", id);
  }
  CALL("last_storage_log") {
    say_result(ctx, jlog_ctx_last_storage_log(ctx, &number));
    say(" log=%08x", number);
  }
  CALL("first_log_id") {
    say_result(ctx, jlog_ctx_first_log_id(ctx, &id));
    say_id("id", id);
  }
  CALL("advance_id within") advance(ctx, 1);
  CALL("advance_id beyond") advance(ctx, 3);
  CALL("pending_readers 0") {
    say_result(ctx, jlog_pending_readers(ctx, 0, &number));
    say(" earliest=%08x", number);
  }
  CALL("list_subscribers") {
    char **names = NULL;
    int n = jlog_ctx_list_subscribers(ctx, &names);
    say_result(ctx, n);
    say(" names=");
    for (int i = 0; i < n; i++) say("%s%s", i ? "," : "", names[i]);
    if (n >= 0) jlog_ctx_list_subscribers_dispose(ctx, names);
  }
  RESULT("add_subscriber n1 BEGIN", jlog_ctx_add_subscriber(ctx, "n1", JLOG_BEGIN))
  RESULT("add_subscriber n2 END", jlog_ctx_add_subscriber(ctx, "n2", JLOG_END))
  RESULT("add_subscriber s BEGIN", jlog_ctx_add_subscriber(ctx, "s", JLOG_BEGIN))
  RESULT("add_subscriber n3 9", jlog_ctx_add_subscriber(ctx, "n3", (jlog_position)9))
  RESULT("remove_subscriber s", jlog_ctx_remove_subscriber(ctx, "s"))
  RESULT("remove_subscriber nosuch", jlog_ctx_remove_subscriber(ctx, "nosuch"))
  RESULT("add_subscriber_copy_checkpoint n4 s", jlog_ctx_add_subscriber_copy_checkpoint(ctx, "n4", "s"))
  RESULT("add_subscriber_copy_checkpoint n5 nosuch", jlog_ctx_add_subscriber_copy_checkpoint(ctx, "n5", "nosuch"))
  RESULT("set_subscriber_checkpoint n6 0:1", jlog_ctx_set_subscriber_checkpoint(ctx, "n6", &one))
  CALL("get_checkpoint NULL") checkpoint_of(ctx, NULL);
  CALL("get_checkpoint s") checkpoint_of(ctx, "s");
  CALL("get_checkpoint nosuch") checkpoint_of(ctx, "nosuch");
  RESULT("alter_journal_size 5000", jlog_ctx_alter_journal_size(ctx, 5000))
  RESULT("alter_journal_size 1000", jlog_ctx_alter_journal_size(ctx, 1000))
  RESULT("alter_safety 0", jlog_ctx_alter_safety(ctx, JLOG_UNSAFE))
  RESULT("alter_safety 1", jlog_ctx_alter_safety(ctx, JLOG_ALMOST_SAFE))
  RESULT("alter_safety 5", jlog_ctx_alter_safety(ctx, (jlog_safety)5))
  RESULT("alter_read_method 1", jlog_ctx_alter_read_method(ctx, JLOG_READ_METHOD_PREAD))
  RESULT("alter_read_method 9", jlog_ctx_alter_read_method(ctx, (jlog_read_method_type)9))
  CALL("idx_details 0") index_of(ctx, 0);
  CALL("idx_details 5") index_of(ctx, 5);
  RESULT("inspect_datafile 0", jlog_inspect_datafile(ctx, 0, 0))
  RESULT("inspect_datafile 5", jlog_inspect_datafile(ctx, 5, 0))
  RESULT("repair_datafile 0", jlog_repair_datafile(ctx, 0))
  RESULT("repair_datafile 5", jlog_repair_datafile(ctx, 5))
  RESULT("repair", jlog_ctx_repair(ctx, 0))
  RESULT("repair aggressive", jlog_ctx_repair(ctx, 1))
  CALL("raw_size") say("size=%zu", jlog_raw_size(ctx));
  else say("no such call in table.c");
}

static void answer_here(jlog_ctx *(*make)(const char *path), const char *path, const char *call) {
  jlog_ctx *ctx = make(path);
  errno = 0;
  make_call(call, ctx);
  jlog_ctx_close(ctx);
}

/* One row in a process of its own: 0, or what it died of. valgrind takes a second for a process: there, rows are made
 * in this one, and what dies in one is valgrind's to tell. */
static int answer_to(jlog_ctx *(*make)(const char *path), const char *path, const char *call) {
  int status = 0;
  pid_t child;

  answer[0] = '\0';
  if (getenv("CAPI_FEW")) {
    answer_here(make, path, call);
    return 0;
  }
  fflush(stdout);
  child = fork();
  if (child == 0) {
    dup2(open("/dev/null", O_WRONLY), 2);
    answer_here(make, path, call);
    _exit(0);
  }
  if (child < 0 || waitpid(child, &status, 0) != child) return -1;
  return status;
}

/* ---- deviations ---- */

static struct difference {
  char state[64], call[64], field[32], ours[64], why[256];
  int line, occurs;
} differences[600];
static int difference_count;

/* Spaces at both ends go. */
static char *trimmed(char *text) {
  char *end = text + strlen(text);
  while (end > text && (end[-1] == ' ' || end[-1] == '\n')) *--end = '\0';
  return text + strspn(text, " ");
}

static FILE *beside_this_source(const char *name) {
  char path[PATH_MAX], source[] = __FILE__;
  snprintf(path, sizeof path, "%s/%s", dirname(source), name);
  FILE *file = fopen(path, "r");
  if (!file) {
    perror(path);
    exit(2);
  }
  return file;
}

static void read_differences(void) {
  FILE *file = beside_this_source("differences.txt");
  char text[1024];
  for (int line = 1; fgets(text, sizeof text, file); line++) {
    struct difference *to = &differences[difference_count];
    char *fields[5], *rest = text;
    int n = 0;
    if (text[0] == '#' || !*trimmed(text)) continue;
    for (char *field; n < 5 && (field = strsep(&rest, "|"));) fields[n++] = trimmed(field);
    if (n != 5 || !*fields[4] || difference_count == 600) {
      check_that(0, "differences.txt", line, "expected state | call | field | answer here | why");
      continue;
    }
    snprintf(to->state, sizeof to->state, "%s", fields[0]);
    snprintf(to->call, sizeof to->call, "%s", fields[1]);
    snprintf(to->field, sizeof to->field, "%s", fields[2]);
    snprintf(to->ours, sizeof to->ours, "%s", fields[3]);
    snprintf(to->why, sizeof to->why, "%s", fields[4]);
    to->line = line;
    difference_count++;
  }
  fclose(file);
}

static int is_allowed(const char *state, const char *call, const char *field, const char *ours) {
  for (struct difference *d = differences; d < differences + difference_count; d++)
    if ((!strcmp(d->state, "*") || !strcmp(d->state, state)) && (!strcmp(d->call, "*") || !strcmp(d->call, call)) &&
        !strcmp(d->field, field) && !strcmp(d->ours, ours)) {
      d->occurs = 1;
      return 1;
    }
  return 0;
}

/* Each field the table expects against the one that was found. */
static void compare(const char *state, const char *call, char *expected, char *found, int line) {
  char *left, *right;
  while ((left = strsep(&expected, " ")) && (right = strsep(&found, " "))) {
    char *value = strchr(left, '='), *ours = strchr(right, '=');
    if (!value || !ours || value - left != ours - right || strncmp(left, right, (size_t)(value - left))) {
      check_that(0, "table.txt", line, "[%s] %s: expected a field %s, found %s", state, call, left, right);
      return;
    }
    *value++ = *ours++ = '\0';
    check_that(!strcmp(value, ours) || (!reference() && is_allowed(state, call, left, ours)), "table.txt", line,
               "[%s] %s: %s: expected %s, found %s", state, call, left, value, ours);
  }
  check_that(!left && !(found && *found), "table.txt", line, "[%s] %s: fields missing or too many", state, call);
}

int main(int argc, char **argv) {
  FILE *table = beside_this_source("table.txt");
  char text[1024], state[64] = "", *expected;
  int rows = 0, crashes = 0, known;
  jlog_ctx *(*make)(const char *path) = NULL;

  begin(argc, argv);
  claim("calls answer as the table says");
  answer = mmap(NULL, ANSWER_ROOM, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  read_differences();

  for (int line = 1; fgets(text, sizeof text, table); line++) {
    trimmed(text);
    if (text[0] == '#' || text[0] == '\0') continue;
    if (text[0] == '[') {
      snprintf(state, sizeof state, "%.*s", (int)strlen(text) - 2, text + 1);
      make = NULL;
      for (size_t i = 0; i < sizeof states / sizeof *states; i++)
        if (!strcmp(states[i].name, state)) make = states[i].make;
      check_that(make != NULL, "table.txt", line, "no such state in table.c: %s", state);
      continue;
    }
    expected = strstr(text, "  ");
    known = make && (expected || (expected = strstr(text, " rc=")));
    if (!check_that(known, "table.txt", line, "expected a call and what it answers")) continue;
    *expected++ = '\0';
    expected = trimmed(expected);

    int crash = !strcmp(expected, "crash");
    rows++;
    crashes += crash;
    if (crash && reference()) continue;
    int status = answer_to(make, at("%d", line), text);
    if (!check_that(status == 0, "table.txt", line, "[%s] %s: died (status 0x%x) after answering \"%s\"", state, text,
                    status, answer))
      continue;
    if (crash) {
      char minus[] = "rc=-1";
      answer[strcspn(answer, " ")] = '\0';
      compare(state, text, minus, answer, line);
    } else {
      compare(state, text, expected, answer, line);
    }
  }
  fclose(table);
  /* Twelve states, and every call in each. */
  EQUAL(12 * 48, rows);
  for (struct difference *d = differences; !reference() && d < differences + difference_count; d++)
    check_that(d->occurs, "differences.txt", d->line, "does not occur any more: [%s] %s %s %s", d->state, d->call,
               d->field, d->ours);
  printf("%d rows, %d of them crashes of libjlog, %d differences\n", rows, crashes, difference_count);
  return finish();
}
