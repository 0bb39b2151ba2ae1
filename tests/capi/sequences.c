/* Random sequences of calls against a model: what was written is read, in order, once, whoever reads it and however often
 * he begins anew. Of a damaged log all readers read the same. A seed that fails is printed; CAPI_SEED=N runs that one. */
#include "check.h"

enum { MOST = 2000, FORMATS = 4 };

static uint64_t dice;

/* 0 .. sides-1 */
static unsigned roll(unsigned sides) {
  dice ^= dice << 13;
  dice ^= dice >> 7;
  dice ^= dice << 17;
  return (unsigned)(dice >> 33) % sides;
}

static const char *log_path;

/* The number of messages written, and what they hold. */
static int written;
static unsigned length_of(int number) {
  return (unsigned)number * 7919 % (number % 9 ? 40 : 700);
}
static void fill(char *text, int number) {
  memset(text, 'a' + number % 26, length_of(number) + 16);
  snprintf(text, 16, "%014d", number);
  text[14] = ' ';
}

/* The number of a message, or -1 if it is none that was written. */
static int number_of(const jlog_message *message) {
  char text[1024], digits[16] = "";
  int number;
  if (message->mess_len < 16) return -1;
  memcpy(digits, message->mess, 14);
  number = atoi(digits);
  if (number < 0 || number >= written || message->mess_len != length_of(number) + 16) return -1;
  fill(text, number);
  return memcmp(text, message->mess, message->mess_len) ? -1 : number;
}

static jlog_ctx *make(int format) {
  jlog_ctx *ctx = jlog_new(log_path);
#ifdef JLOG_HAS_EXTENSIONS
  if (format == 3) OK(ctx, jlog_ctx_set_format(ctx, JLOG_FORMAT_CHECKSUMMED));
#endif
  OK(ctx, jlog_ctx_alter_safety(ctx, JLOG_UNSAFE));
  OK(ctx, jlog_ctx_alter_journal_size(ctx, 300 + roll(3000)));
  if (format == 1 || format == 2) {
    jlog_ctx_set_use_compression(ctx, 1);
    jlog_ctx_set_compression_provider(ctx, format == 1 ? JLOG_COMPRESSION_LZ4 : JLOG_COMPRESSION_NULL);
  }
  OK(ctx, jlog_ctx_init(ctx));
  return ctx;
}

/* ---- sound logs ---- */

struct reader {
  const char *name;
  jlog_ctx *ctx;
  int next; /* the first message behind the checkpoint */
};

static struct reader readers[2] = {{.name = "a"}, {.name = "b"}};

/* An interval, some of its messages read in one of three ways, and perhaps a checkpoint behind them. False: nothing new. */
static int read_some(struct reader *one) {
  static jlog_message messages[MOST];
  jlog_id first, last, id;
  int n, k, wanted, way = (int)roll(3);

  if (!one->ctx) {
    one->ctx = jlog_new(log_path);
    jlog_ctx_alter_read_method(one->ctx, roll(2) ? JLOG_READ_METHOD_PREAD : JLOG_READ_METHOD_MMAP);
    OK(one->ctx, jlog_ctx_open_reader(one->ctx, one->name));
  }
  n = jlog_ctx_read_interval(one->ctx, &first, &last);
  if (!CHECK(n >= 0 && n <= written - one->next)) return 0;
  if (n == 0) return 0;
  EQUAL(n - 1, last.marker - first.marker);
  wanted = roll(2) ? n : 1 + (int)roll((unsigned)n);
  if (way == 0) OK(one->ctx, jlog_ctx_bulk_read_messages(one->ctx, &first, wanted, messages));
  for (k = 0; k < wanted; k++) {
    int which = way == 2 ? wanted - 1 - k : k;
    id = (jlog_id){first.log, first.marker + (uint32_t)which};
    if (way) OK(one->ctx, jlog_ctx_read_message(one->ctx, &id, &messages[which]));
    EQUAL(one->next + which, number_of(&messages[which]));
  }
  if (roll(3)) {
    id = (jlog_id){first.log, first.marker + (uint32_t)wanted - 1};
    OK(one->ctx, jlog_ctx_read_checkpoint(one->ctx, &id));
    one->next += wanted;
  }
  return 1;
}

static void stop(struct reader *one) {
  if (one->ctx) jlog_ctx_close(one->ctx);
  one->ctx = NULL;
}

static void sound_log(int format) {
  jlog_ctx *out = NULL, *beside = NULL, *ctx = make(format);
  char text[1024];
  int step, n, quiet;

  written = 0;
  for (n = 0; n < 2; n++) {
    readers[n].next = 0;
    OK(ctx, jlog_ctx_add_subscriber(ctx, readers[n].name, JLOG_BEGIN));
  }
  jlog_ctx_close(ctx);
  for (step = 0; step < 150; step++) {
    struct reader *one = &readers[roll(2)];
    switch (roll(8)) {
    case 0:
    case 1:
    case 2:
      if (!out) {
        out = jlog_new(log_path);
        if (format < 3 && roll(3) == 0) jlog_ctx_set_pre_commit_buffer_size(out, roll(2) ? 100 + roll(2000) : 0);
        OK(out, jlog_ctx_open_writer(out));
      }
      for (n = (int)roll(12); n > 0; n--) {
        fill(text, written++);
        OK(out, jlog_ctx_write(out, text, length_of(written - 1) + 16));
      }
      /* Another context of the log goes on behind what this one has written. */
      if (roll(4) == 0) {
        OK(out, jlog_ctx_flush_pre_commit_buffer(out));
        if (!beside) beside = writer(log_path);
        fill(text, written++);
        OK(beside, jlog_ctx_write(beside, text, length_of(written - 1) + 16));
        OK(beside, jlog_ctx_flush_pre_commit_buffer(beside));
      }
      break;
    case 3:
      if (out) jlog_ctx_close(out);
      out = NULL;
      if (beside) jlog_ctx_close(beside);
      beside = NULL;
      break;
    case 4:
      stop(one);
      break;
    case 5:
      if (roll(4) == 0 && !out && !beside) CHECK(jlog_clean(log_path) >= 0);
      break;
    default:
      read_some(one);
    }
  }
  if (out) jlog_ctx_close(out);
  if (beside) jlog_ctx_close(beside);
  for (n = 0; n < 2; n++) {
    for (quiet = 0; quiet < 3;) quiet = read_some(&readers[n]) ? 0 : quiet + 1;
    EQUAL(written, readers[n].next);
    stop(&readers[n]);
  }
}

/* ---- damaged logs ---- */

/* What the first reader reads of the log: each message, and its id. */
static int count;
static int numbers[MOST];
static jlog_id ids[MOST];

static void read_all(void) {
  jlog_ctx *ctx = reader(log_path, "a");
  jlog_id first, last;
  jlog_message message;
  int n, quiet = 0;

  count = 0;
  while (quiet < 3) {
    n = jlog_ctx_read_interval(ctx, &first, &last);
    if (!CHECK(n >= 0)) break;
    quiet = n ? 0 : quiet + 1;
    for (; n > 0 && count < MOST; n--, first.marker++, count++) {
      OK(ctx, jlog_ctx_read_message(ctx, &first, &message));
      numbers[count] = number_of(&message);
      ids[count] = first;
    }
    if (count && !quiet) OK(ctx, jlog_ctx_read_checkpoint(ctx, &last));
  }
  jlog_ctx_close(ctx);
}

/* Another one, that begins anew time and again, and checkpoints where it likes. */
static void read_by_bits(void) {
  jlog_ctx *ctx = NULL;
  jlog_id first, last, id;
  jlog_message message;
  int n, k, quiet = 0, next = 0;

  while (quiet < 4) {
    if (ctx && roll(3) == 0) {
      jlog_ctx_close(ctx);
      ctx = NULL;
    }
    if (!ctx) ctx = reader(log_path, "b");
    n = jlog_ctx_read_interval(ctx, &first, &last);
    if (!CHECK(n >= 0 && next + n <= count)) break;
    quiet = n ? 0 : quiet + 1;
    if (n > 1 && roll(2)) n = 1 + (int)roll((unsigned)n);
    for (k = 0; k < n; k++) {
      id = (jlog_id){first.log, first.marker + (uint32_t)k};
      if (!OK(ctx, jlog_ctx_read_message(ctx, &id, &message))) break;
      EQUAL(numbers[next + k], number_of(&message));
      ID(ids[next + k].log, ids[next + k].marker, id);
    }
    if (k < n) break;
    if (n && roll(3)) {
      OK(ctx, jlog_ctx_read_checkpoint(ctx, &id));
      next += n;
    }
  }
  EQUAL(count, next);
  if (ctx) jlog_ctx_close(ctx);
}

/* Bytes of a finished segment are overwritten, cut out or missing. */
static void damage(uint32_t segments) {
  char name[16], junk[200];
  const char *path;
  long long size;
  unsigned n;

  snprintf(name, sizeof name, "%08x", roll(segments));
  path = in(log_path, name);
  size = file_size(path);
  if (size < 2) return;
  switch (roll(8)) {
  case 0:
    CHECK(unlink(path) == 0);
    break;
  case 1:
    CHECK(truncate(path, (off_t)roll((unsigned)size)) == 0);
    break;
  default:
    n = 1 + roll(roll(2) ? 8 : sizeof junk);
    if (n > size) n = (unsigned)size;
    memset(junk, (int)roll(256), sizeof junk);
    overwrite(path, (long long)roll((unsigned)(size - n + 1)), junk, n);
  }
}

static void damaged_log(int format) {
  jlog_ctx *ctx = make(format);
  jlog_id last;
  char text[1024];
  int n, before = -1;

  OK(ctx, jlog_ctx_add_subscriber(ctx, "a", JLOG_BEGIN));
  OK(ctx, jlog_ctx_add_subscriber(ctx, "b", JLOG_BEGIN));
  jlog_ctx_close(ctx);
  ctx = writer(log_path);
  for (written = 0; written < 150; written++) {
    fill(text, written);
    OK(ctx, jlog_ctx_write(ctx, text, length_of(written) + 16));
  }
  jlog_ctx_close(ctx);
  ctx = reader(log_path, "a");
  if (roll(2)) jlog_ctx_read_interval(ctx, &last, &last);
  OK(ctx, jlog_ctx_last_log_id(ctx, &last));
  jlog_ctx_close(ctx);
  for (n = 1 + (int)roll(3); n > 0 && last.log; n--) damage(last.log);

  read_all();
  CHECK(count <= written);
  for (n = 0; n < count; n++) {
    /* A classic log cannot tell that bytes of a message have changed. */
    if (format < 3 && numbers[n] < 0) continue;
    CHECK(numbers[n] > before);
    before = numbers[n];
  }
  read_by_bits();
}

int main(int argc, char **argv) {
  const char *said = getenv("CAPI_SEED");
  unsigned long seed, from = said ? strtoul(said, NULL, 10) : 1, to = from + 1;

  begin(argc, argv);
  if (!said) to = from + (getenv("CAPI_FEW") ? 8 : 160);
  for (seed = from; seed < to; seed++) {
    unsigned failures = check_failures;
    int format = (int)(seed % (reference() ? 3 : FORMATS));
    char remove[PATH_MAX + 16];
    dice = seed * 0x9E3779B97F4A7C15 + 1;
    for (int n = 0; n < 20; n++) roll(2);
    log_path = at("seed-%lu", seed);
    if (seed / FORMATS % 2 || reference()) {
      claim("what was written is read in order, once");
      sound_log(format);
    } else {
      claim("of a damaged log everybody reads the same");
      catch_stderr(at("stderr"));
      damaged_log(format);
      caught_stderr(at("stderr"));
    }
    if (check_failures > failures) printf("seed %lu\n", seed);
    snprintf(remove, sizeof remove, "rm -rf '%s'", log_path);
    if (check_failures == failures) EQUAL(0, system(remove));
  }
  return finish();
}
