/* The C interface at work, for benches/capi.rs: `ways WAY LOG COUNT SIZE` prints the CPU time it took, in nanoseconds.
 *
 * Linked against libjlog.so.2, whichever the loader finds: this engine's, or the C library's. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "jlog.h"

static uint64_t cpu_time(void) {
  struct timespec now;
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
  return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void require(int holds, const char *what, jlog_ctx *ctx) {
  if (holds) return;
  fprintf(stderr, "%s: %s, errno %d\n", what, jlog_ctx_err_string(ctx), jlog_ctx_errno(ctx));
  exit(1);
}

/* Touches every byte, eight at a time: what a consumer does at the least. */
static uint64_t sum(const void *bytes, size_t len) {
  uint64_t total = 0, word;
  const unsigned char *at = bytes;
  for (; len >= 8; len -= 8, at += 8) {
    memcpy(&word, at, 8);
    total += word;
  }
  while (len--) total += *at++;
  return total;
}

static void append(jlog_ctx *ctx, uint64_t count, size_t size) {
  char *message = malloc(size);
  struct timeval when = {1700000000, 0};
  jlog_message record;
  for (size_t n = 0; n < size; n++) message[n] = (char)('a' + n % 23);
  memset(&record, 0, sizeof record);
  record.mess = message;
  record.mess_len = (uint32_t)size;
  require(jlog_ctx_open_writer(ctx) == 0, "open_writer", ctx);
  for (uint64_t n = 0; n < count; n++) {
    when.tv_usec = (long)(n & 0xfffff);
    require(jlog_ctx_write_message(ctx, &record, &when) == 0, "write_message", ctx);
  }
  free(message);
}

/* Interval after interval, with a checkpoint behind each, as programs do. */
static void read_all(jlog_ctx *ctx, uint64_t count, int bulk) {
  volatile uint64_t total = 0;
  uint64_t seen = 0;
  jlog_message one, *many = NULL;
  jlog_id from, to;
  int n;
  require(jlog_ctx_open_reader(ctx, "bench") == 0, "open_reader", ctx);
  while ((n = jlog_ctx_read_interval(ctx, &from, &to)) > 0) {
    if (bulk) {
      many = realloc(many, (size_t)n * sizeof *many);
      require(jlog_ctx_bulk_read_messages(ctx, &from, n, many) == 0, "bulk_read_messages", ctx);
      for (int i = 0; i < n; i++) total += sum(many[i].mess, many[i].mess_len);
    } else {
      for (int i = 0; i < n; i++, JLOG_ID_ADVANCE(&from)) {
        require(jlog_ctx_read_message(ctx, &from, &one) == 0, "read_message", ctx);
        total += sum(one.mess, one.mess_len);
      }
    }
    require(jlog_ctx_read_checkpoint(ctx, &to) == 0, "read_checkpoint", ctx);
    seen += (uint64_t)n;
  }
  require(n == 0 && seen == count, "read_interval", ctx);
  free(many);
}

int main(int argc, char **argv) {
  if (argc != 5) return 2;
  uint64_t count = strtoull(argv[3], NULL, 10), start;
  size_t size = strtoull(argv[4], NULL, 10);
  jlog_ctx *ctx = jlog_new(argv[2]);
  if (!strncmp(argv[1], "append", 6)) {
    require(jlog_ctx_init(ctx) == 0, "init", ctx);
    jlog_ctx_close(ctx);
    ctx = jlog_new(argv[2]);
    if (!strcmp(argv[1], "append-buffered")) jlog_ctx_set_pre_commit_buffer_size(ctx, 1 << 20);
    start = cpu_time();
    append(ctx, count, size);
  } else {
    start = cpu_time();
    read_all(ctx, count, !strcmp(argv[1], "bulk"));
  }
  require(jlog_ctx_close(ctx) == 0, "close", NULL);
  printf("%llu\n", (unsigned long long)(cpu_time() - start));
  return 0;
}
