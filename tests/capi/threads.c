/* One context written by many threads, two contexts of one log, a context that children have from their parent, readers
 * in threads of their own: nothing is lost, nothing comes twice, and each writer's messages come in its order, with
 * segments finished all the while. */
#include "check.h"

#include <sched.h>
#include <time.h>

enum { WRITERS = 8, MOST_CONTEXTS = 2, READERS = 2 };

static const char *path;
static int messages_each;

struct writing {
  jlog_ctx *ctx;
  int number, failures;
};

static void *write_all(void *argument) {
  struct writing *writing = argument;
  char text[64];
  for (int i = 0; i < messages_each; i++) {
    /* Lengths differ, so that records end anywhere. */
    int n = snprintf(text, sizeof text, "%d:%d:%.*s", writing->number, i, i % 30, "..............................");
    if (jlog_ctx_write(writing->ctx, text, (size_t)n)) writing->failures++;
  }
  return NULL;
}

struct reading {
  const char *subscriber;
  int use_bulk, expected;
  /* What was found. */
  int next[WRITERS], read, out_of_order, garbled, segments, failure;
};

static void take(struct reading *reading, const jlog_message *message) {
  char text[64];
  int number, i, dots = 0;
  if (message->mess_len >= sizeof text) {
    reading->garbled++;
    return;
  }
  memcpy(text, message->mess, message->mess_len);
  text[message->mess_len] = '\0';
  if (sscanf(text, "%d:%d:%n", &number, &i, &dots) != 2 || number < 0 || number >= WRITERS ||
      strspn(text + dots, ".") != (size_t)(i % 30) || strlen(text) != (size_t)(dots + i % 30)) {
    reading->garbled++;
    return;
  }
  if (i != reading->next[number]) reading->out_of_order++;
  reading->next[number] = i + 1;
  reading->read++;
}

/* Reads until it has what it expects, or nothing has come for a minute. */
static void *read_all(void *argument) {
  struct reading *reading = argument;
  jlog_ctx *ctx = jlog_new(path);
  jlog_id first, last;
  uint32_t segment = UINT32_MAX;
  time_t since = time(NULL);

  if (jlog_ctx_open_reader(ctx, reading->subscriber)) reading->failure = jlog_ctx_err(ctx);
  while (!reading->failure && reading->read < reading->expected && time(NULL) < since + 60) {
    int n = jlog_ctx_read_interval(ctx, &first, &last);
    if (n < 0) reading->failure = jlog_ctx_err(ctx);
    if (n <= 0) {
      sched_yield();
      continue;
    }
    since = time(NULL);
    if (first.log != segment) reading->segments++;
    segment = first.log;
    if (reading->use_bulk) {
      jlog_message *messages = calloc((size_t)n, sizeof *messages);
      if (jlog_ctx_bulk_read_messages(ctx, &first, n, messages)) reading->failure = jlog_ctx_err(ctx);
      for (int i = 0; !reading->failure && i < n; i++) take(reading, &messages[i]);
      free(messages);
    } else {
      jlog_message message;
      for (; !reading->failure && n > 0; n--, JLOG_ID_ADVANCE(&first)) {
        if (jlog_ctx_read_message(ctx, &first, &message))
          reading->failure = jlog_ctx_err(ctx);
        else
          take(reading, &message);
      }
    }
    if (!reading->failure && jlog_ctx_read_checkpoint(ctx, &last)) reading->failure = jlog_ctx_err(ctx);
  }
  /* And there is nothing behind the last one. */
  if (!reading->failure && jlog_ctx_read_interval(ctx, &first, &last) > 0) reading->read = -1;
  jlog_ctx_close(ctx);
  return NULL;
}

static void all_at_once(const char *name, const char *what, int contexts, size_t buffer, int multi_process) {
  jlog_ctx *ctxs[MOST_CONTEXTS];
  struct writing writing[WRITERS];
  struct reading reading[READERS] = {{.subscriber = "s"}, {.subscriber = "t", .use_bulk = 1}};
  pthread_t writers[WRITERS], readers[READERS];
  jlog_id last;
  jlog_ctx *ctx;

  claim(what);
  path = at("%s", name);
  make_log(path, 4000);
  ctx = jlog_new(path);
  OK(ctx, jlog_ctx_add_subscriber(ctx, "t", JLOG_BEGIN));
  EQUAL(0, jlog_ctx_close(ctx));

  for (int i = 0; i < contexts; i++) {
    ctxs[i] = jlog_new(path);
    jlog_ctx_set_multi_process(ctxs[i], (uint8_t)multi_process);
    if (buffer) jlog_ctx_set_pre_commit_buffer_size(ctxs[i], buffer);
    OK(ctxs[i], jlog_ctx_open_writer(ctxs[i]));
  }
  for (int i = 0; i < READERS; i++) {
    reading[i].expected = WRITERS * messages_each;
    pthread_create(&readers[i], NULL, read_all, &reading[i]);
  }
  for (int i = 0; i < WRITERS; i++) {
    writing[i] = (struct writing){.ctx = ctxs[i % contexts], .number = i};
    pthread_create(&writers[i], NULL, write_all, &writing[i]);
  }
  for (int i = 0; i < WRITERS; i++) {
    pthread_join(writers[i], NULL);
    EQUAL(0, writing[i].failures);
  }
  for (int i = 0; i < contexts; i++) EQUAL(0, jlog_ctx_close(ctxs[i]));
  for (int i = 0; i < READERS; i++) {
    pthread_join(readers[i], NULL);
    EQUAL(0, reading[i].failure);
    EQUAL(0, reading[i].garbled);
    EQUAL(0, reading[i].out_of_order);
    EQUAL(reading[i].expected, reading[i].read);
    for (int n = 0; n < WRITERS; n++) EQUAL(messages_each, reading[i].next[n]);
  }
  /* There were segments to go over, and the finished ones are gone. */
  ctx = reader(path, "s");
  OK(ctx, jlog_ctx_last_log_id(ctx, &last));
  CHECK(last.log >= 3);
  CHECK(reading[0].segments >= 3);
  EQUAL(-1, file_size(in(path, "00000000")));
  EQUAL(0, jlog_ctx_close(ctx));
}

/* Servers open a log, fork, and write from every process. A lock that belongs to the descriptor instead of the process
 * does not keep a child out that has it from its parent. */
static void from_before_a_fork(const char *name, size_t segment_size, int contexts_in_children) {
  struct writing writing = {0};
  struct reading reading = {.subscriber = "s", .expected = WRITERS * messages_each};
  pid_t children[WRITERS];

  claim("a context opened before a fork is written by parent and children");
  path = at("%s", name);
  make_log(path, segment_size);
  writing.ctx = writer(path);
  /* So that it has its segment open. */
  OK(writing.ctx, jlog_ctx_flush_pre_commit_buffer(writing.ctx));
  OK(writing.ctx, jlog_ctx_add_subscriber(writing.ctx, "t", JLOG_BEGIN));
  fflush(stdout);
  for (int i = 1; i < WRITERS; i++) {
    children[i] = fork();
    if (children[i] == 0) {
      writing.number = i;
      /* Some open one of their own, beside the one they have. */
      if (contexts_in_children && i % 2) writing.ctx = writer(path);
      write_all(&writing);
      if (contexts_in_children && i % 2) jlog_ctx_close(writing.ctx);
      _exit(writing.failures != 0);
    }
  }
  write_all(&writing);
  EQUAL(0, writing.failures);
  for (int i = 1; i < WRITERS; i++) {
    int status = -1;
    waitpid(children[i], &status, 0);
    EQUAL(0, status);
  }
  EQUAL(0, jlog_ctx_close(writing.ctx));
  read_all(&reading);
  EQUAL(0, reading.failure);
  EQUAL(0, reading.garbled);
  EQUAL(0, reading.out_of_order);
  EQUAL(reading.expected, reading.read);
}

int main(int argc, char **argv) {
  begin(argc, argv);
  messages_each = getenv("CAPI_FEW") ? 60 : 500;
  all_at_once("one", "eight threads write one context", 1, 0, 1);
  all_at_once("single", "eight threads write one context without file locks", 1, 0, 0);
  all_at_once("two", "eight threads write two contexts of one log", 2, 0, 1);
  all_at_once("buffered", "eight threads write one context with a buffer", 1, 1000, 1);
  from_before_a_fork("forked", 4194304, 0);
  from_before_a_fork("forked-and-finished", 4000, 0);
  from_before_a_fork("forked-and-opened", 4194304, 1);
  return finish();
}
