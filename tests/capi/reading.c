/* What reads lend and for how long, and what is read of logs that are damaged. */
#include "check.h"

/* ---- what is lent ---- */

#define LARGE (1 << 20)

/* A message of LARGE bytes, none of them as in another one. */
static void fill(unsigned char *bytes, int number) {
  memset(bytes, number, LARGE);
}

static int is_large(const jlog_message *message, int number) {
  const unsigned char *bytes = message->mess;
  return message->mess_len == LARGE && bytes[0] == number && !memcmp(bytes, bytes + 1, LARGE - 1);
}

/* More than the library keeps of what is not at hand, in one segment, read by a context that has asked for no interval. */
static void many_at_once(void) {
  enum { COUNT = 80 };
  static jlog_message messages[COUNT];
  static unsigned char bytes[LARGE];
  const char *path = at("large");
  jlog_ctx *ctx;
  int n;

  make_log(path, (size_t)COUNT * 2 * LARGE);
  ctx = writer(path);
  for (n = 0; n < COUNT; n++) {
    fill(bytes, n);
    OK(ctx, jlog_ctx_write(ctx, bytes, LARGE));
  }
  jlog_ctx_close(ctx);

  claim("a bulk read lends all of its messages at once, however many bytes they are");
  for (int method = JLOG_READ_METHOD_MMAP; method <= JLOG_READ_METHOD_PREAD; method++) {
    ctx = jlog_new(path);
    EQUAL(0, jlog_ctx_alter_read_method(ctx, (jlog_read_method_type)method));
    OK(ctx, jlog_ctx_open_reader(ctx, "s"));
    OK(ctx, jlog_ctx_bulk_read_messages(ctx, &(jlog_id){0, 1}, COUNT, messages));
    for (n = 0; n < COUNT; n++) CHECK(is_large(&messages[n], n));
    jlog_ctx_close(ctx);
  }

  claim("a message that is mapped is lent until the next interval, whatever is read of its segment");
  ctx = reader(path, "s");
  for (n = 0; n < COUNT; n++) OK(ctx, jlog_ctx_read_message(ctx, &(jlog_id){0, (uint32_t)n + 1}, &messages[n]));
  for (n = 0; n < COUNT; n++) CHECK(is_large(&messages[n], n));
  jlog_ctx_close(ctx);
}

static void lent_meanwhile(void) {
  const char *path = at("lent");
  jlog_ctx *ctx, *out;
  jlog_id first, last;
  jlog_message message, other;
  char *mess;
  int status;
  pid_t child;

  claim("what is lent stays through calls that are no reads");
  make_log(path, 4096);
  out = writer(path);
  put_numbered(out, 1, 3);
  jlog_ctx_close(out);
  ctx = reader(path, "s");
  EQUAL(3, jlog_ctx_read_interval(ctx, &first, &last));
  OK(ctx, jlog_ctx_read_message(ctx, &first, &message));
  mess = message.mess;
  OK(ctx, jlog_ctx_read_checkpoint(ctx, &last));
  jlog_ctx_repair(ctx, 0);
  EQUAL(0, jlog_inspect_datafile(ctx, 0, 0));
  EQUAL(0, jlog_repair_datafile(ctx, 0));
  OK(ctx, jlog_ctx_read_message(ctx, &(jlog_id){0, 2}, &other));
  CHECK(!memcmp(mess, "message 01", 10));
  CHECK(!memcmp(other.mess, "message 02", 10));

  claim("also in a child, which opens the log anew");
  fflush(stdout);
  child = fork();
  if (child == 0) {
    int sound;
    jlog_ctx_read_checkpoint(ctx, &(jlog_id){0, 1});
    jlog_ctx_read_message(ctx, &(jlog_id){0, 3}, &message);
    sound = !memcmp(mess, "message 01", 10) && !memcmp(other.mess, "message 02", 10) &&
            !memcmp(message.mess, "message 03", 10);
    jlog_ctx_close(ctx);
    _exit(!sound);
  }
  waitpid(child, &status, 0);
  EQUAL(0, status);
  EQUAL(2, jlog_ctx_read_interval(ctx, &first, &last));
  jlog_ctx_close(ctx);
}

/* ---- damage ---- */

/* The message's text; the error's name where it cannot be read. */
static const char *read_at(jlog_ctx *ctx, uint32_t log, uint32_t marker) {
  static char text[64];
  jlog_message message;
  if (jlog_ctx_read_message(ctx, &(jlog_id){log, marker}, &message)) return jlog_ctx_err_string(ctx);
  snprintf(text, sizeof text, "%.*s", (int)message.mess_len, (char *)message.mess);
  return text;
}

/* libjlog repairs the segment: that costs the message before the damage too, and moves all ids behind it. */
static void ids_behind_damage(void) {
  const char *path = at("damaged");
  jlog_id first, last;
  jlog_message messages[2];
  jlog_ctx *ctx, *out;
  char junk[52];

  claim("damage in a finished segment costs what it hit, and the others keep their ids");
  make_log(path, 130);
  out = writer(path);
  put_numbered(out, 1, 7);
  jlog_ctx_close(out);
  overwrite(in(path, "00000000"), 26, "XXXX", 4);
  ctx = reader(path, "s");
  EQUAL(1, jlog_ctx_read_interval(ctx, &first, &last));
  TEXT("message 01", read_at(ctx, 0, 1));
  OK(ctx, jlog_ctx_read_checkpoint(ctx, &last));
  EQUAL(3, jlog_ctx_read_interval(ctx, &first, &last));
  ID(0, 3, first);
  ID(0, 5, last);
  TEXT("message 03", read_at(ctx, 0, 3));
  TEXT("message 05", read_at(ctx, 0, 5));
  OK(ctx, jlog_ctx_read_checkpoint(ctx, &(jlog_id){0, 4}));
  EQUAL(1, jlog_ctx_read_interval(ctx, &first, &last));
  ID(0, 5, first);
  jlog_ctx_close(ctx);

  claim("they are read by these ids whether or not an interval has told of them");
  ctx = reader(path, "s");
  TEXT("message 05", read_at(ctx, 0, 5));
  TEXT("message 01", read_at(ctx, 0, 1));
  TEXT("message 03", read_at(ctx, 0, 3));
  TEXT("message 04", read_at(ctx, 0, 4));
  OK(ctx, jlog_ctx_bulk_read_messages(ctx, &(jlog_id){0, 3}, 2, messages));
  CHECK(!memcmp(messages[1].mess, "message 04", 10));
  TEXT("JLOG_ERR_FILE_CORRUPT", read_at(ctx, 0, 2));
  FAILS(ctx, JLOG_ERR_FILE_CORRUPT, jlog_ctx_bulk_read_messages(ctx, &(jlog_id){0, 1}, 2, messages));
  TEXT("message 06", read_at(ctx, 1, 1));
  TEXT("[message 05][message 06][message 07]", drain(ctx));
  jlog_ctx_close(ctx);

  claim("also where it is not known how many messages are lost");
  path = at("more-damaged");
  make_log(path, 130);
  out = writer(path);
  put_numbered(out, 1, 7);
  jlog_ctx_close(out);
  memset(junk, 'X', sizeof junk);
  overwrite(in(path, "00000000"), 26, junk, sizeof junk);
  ctx = reader(path, "s");
  EQUAL(1, jlog_ctx_read_interval(ctx, &first, &last));
  OK(ctx, jlog_ctx_read_checkpoint(ctx, &last));
  EQUAL(2, jlog_ctx_read_interval(ctx, &first, &last));
  ID(0, 3, first);
  TEXT("message 04", read_at(ctx, 0, 3));
  jlog_ctx_close(ctx);
  ctx = reader(path, "s");
  TEXT("message 05", read_at(ctx, 0, 4));
  TEXT("message 04", read_at(ctx, 0, 3));
  TEXT("JLOG_ERR_FILE_CORRUPT", read_at(ctx, 0, 2));
  TEXT("message 01", read_at(ctx, 0, 1));
  TEXT("[message 04][message 05][message 06][message 07]", drain(ctx));
  TEXT("", drain(ctx));
  jlog_ctx_close(ctx);
}

int main(int argc, char **argv) {
  begin(argc, argv);
  many_at_once();
  lent_meanwhile();
  if (!reference()) ids_behind_damage();
  return finish();
}
