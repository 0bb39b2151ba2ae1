/* What libjlog does not have: the checksummed format, durability, sync, and the engine's words for an error. */
#include "check.h"

#include <sys/syscall.h>

#ifndef JLOG_HAS_EXTENSIONS
#error "no extensions"
#endif

/* ---- syncs, counted: the library's calls come here ---- */

static _Atomic int syncs;

int fsync(int fd) {
  syncs++;
  return (int)syscall(SYS_fsync, fd);
}

int fdatasync(int fd) {
  syncs++;
  return (int)syscall(SYS_fdatasync, fd);
}

/* ---- formats ---- */

/* A classic metastore is 16 bytes and ends with its magic. */
static int is_classic(const char *log) {
  uint32_t words[5] = {0};
  return read_file(in(log, "metastore"), words, sizeof words) == 16 && words[3] == DEFAULT_HDR_MAGIC;
}

/* Makes a log in the format that is set or that the environment says. */
static void make(const char *path, int format, size_t segment_size) {
  jlog_ctx *ctx = jlog_new(path);
  if (format >= 0) OK(ctx, jlog_ctx_set_format(ctx, (jlog_format)format));
  OK(ctx, jlog_ctx_alter_journal_size(ctx, segment_size));
  OK(ctx, jlog_ctx_init(ctx));
  OK(ctx, jlog_ctx_add_subscriber(ctx, "s", JLOG_BEGIN));
  EQUAL(0, jlog_ctx_close(ctx));
}

static void choosing_a_format(void) {
  jlog_ctx *ctx;

  claim("a log is classic unless something else is said");
  unsetenv("JLOG_FORMAT");
  make(at("unsaid"), -1, 4096);
  CHECK(is_classic(at("unsaid")));
  make(at("classic"), JLOG_FORMAT_CLASSIC, 4096);
  CHECK(is_classic(at("classic")));

  claim("the program says it by a call");
  make(at("checksummed"), JLOG_FORMAT_CHECKSUMMED, 4096);
  CHECK(!is_classic(at("checksummed")));

  claim("the environment says it where the program does not");
  setenv("JLOG_FORMAT", "checksummed", 1);
  make(at("environment"), -1, 4096);
  CHECK(!is_classic(at("environment")));
  make(at("program"), JLOG_FORMAT_CLASSIC, 4096);
  CHECK(is_classic(at("program")));
  setenv("JLOG_FORMAT", "classic", 1);
  make(at("environment-classic"), -1, 4096);
  CHECK(is_classic(at("environment-classic")));

  claim("a format that is none is refused, and nothing made");
  setenv("JLOG_FORMAT", "checksumed", 1);
  ctx = jlog_new(at("misspelt"));
  FAILS(ctx, JLOG_ERR_NOT_SUPPORTED, jlog_ctx_init(ctx));
  CHECK(strstr(jlog_ctx_err_detail(ctx), "JLOG_FORMAT") != NULL);
  EQUAL(0, jlog_ctx_close(ctx));
  FILES("no directory", at("misspelt"));
  make(at("said-well"), JLOG_FORMAT_CHECKSUMMED, 4096);
  unsetenv("JLOG_FORMAT");
  ctx = jlog_new(at("unknown"));
  FAILS(ctx, JLOG_ERR_NOT_SUPPORTED, jlog_ctx_set_format(ctx, (jlog_format)2));
  OK(ctx, jlog_ctx_init(ctx));
  CHECK(is_classic(at("unknown")));
  FAILS(ctx, JLOG_ERR_ILLEGAL_INIT, jlog_ctx_set_format(ctx, JLOG_FORMAT_CHECKSUMMED));
  EQUAL(0, jlog_ctx_close(ctx));

  claim("an existing log is what it is, whatever the environment says");
  setenv("JLOG_FORMAT", "checksummed", 1);
  ctx = writer(at("classic"));
  put_numbered(ctx, 1, 2);
  EQUAL(0, jlog_ctx_close(ctx));
  EQUAL(52, file_size(in(at("classic"), "00000000")));
  TEXT("[message 01][message 02]", drained(at("classic"), "s"));
  setenv("JLOG_FORMAT", "classic", 1);
  ctx = writer(at("checksummed"));
  put_numbered(ctx, 1, 2);
  EQUAL(0, jlog_ctx_close(ctx));
  TEXT("[message 01][message 02]", drained(at("checksummed"), "s"));
  unsetenv("JLOG_FORMAT");
}

/* What a program does with a classic log, it does with a checksummed one. */
static void the_same_program(void) {
  const char *path = at("same");
  struct timeval when = {1234567890, 5};
  jlog_message message = {.mess = "message 01", .mess_len = 10}, messages[4];
  jlog_id first, last, id;
  uint32_t number, earliest = 99;
  jlog_ctx *ctx, *out;
  char text[16];
  int n;

  claim("a checksummed log is written, read, checkpointed and pruned by the same calls");
  make(path, JLOG_FORMAT_CHECKSUMMED, 4096);
  out = writer(path);
  ctx = reader(path, "s");
  EQUAL(0, jlog_ctx_read_interval(ctx, &first, &last));
  OK(out, jlog_ctx_write_message(out, &message, &when));
  put_numbered(out, 2, 3);
  OK(out, jlog_ctx_flush_pre_commit_buffer(out));
  OK(out, jlog_ctx_sync(out));
  n = jlog_ctx_read_interval(ctx, &first, &last);
  EQUAL(3, n);
  ID(last.log, last.marker - 2, first);
  memset(&message, 0, sizeof message);
  OK(ctx, jlog_ctx_read_message(ctx, &first, &message));
  CHECK(message.mess_len == 10 && !memcmp(message.mess, "message 01", 10));
  EQUAL(10, message.header->mlen);
  EQUAL(1234567890, message.header->tv_sec);
  EQUAL(5, message.header->tv_usec);
  OK(ctx, jlog_ctx_bulk_read_messages(ctx, &first, 3, messages));
  for (n = 0; n < 3; n++) {
    sprintf(text, "message %02d", n + 1);
    CHECK(messages[n].mess_len == 10 && !memcmp(messages[n].mess, text, 10));
  }
  OK(ctx, jlog_ctx_last_log_id(ctx, &id));
  ID(last.log, last.marker, id);
  OK(ctx, jlog_ctx_read_checkpoint(ctx, &first));
  OK(ctx, jlog_get_checkpoint(ctx, "s", &id));
  ID(first.log, first.marker, id);
  EQUAL(2, jlog_ctx_read_interval(ctx, &first, &last));
  OK(ctx, jlog_ctx_read_checkpoint(ctx, &last));
  EQUAL(0, jlog_ctx_read_interval(ctx, &first, &last));
  id = (jlog_id){last.log, 0};
  FAILS(ctx, JLOG_ERR_ILLEGAL_LOGID, jlog_ctx_read_message(ctx, &id, &message));
  id = (jlog_id){last.log + 7, 1};
  CHECK(jlog_ctx_read_message(ctx, &id, &message) == -1);

  claim("segments of a checksummed log are finished, gone over, and deleted when everybody has read them");
  OK(out, jlog_ctx_add_subscriber(out, "end", JLOG_END));
  char large[1000];
  memset(large, 'l', sizeof large);
  for (n = 0; n < 20; n++) OK(out, jlog_ctx_write(out, large, sizeof large));
  OK(out, jlog_ctx_sync(out));
  OK(ctx, jlog_ctx_last_storage_log(ctx, &number));
  CHECK(number >= 3);
  EQUAL(2, jlog_pending_readers(ctx, number, &earliest));
  EQUAL(0, earliest);
  TEXT("end s", subscribers(ctx));
  n = (int)strlen(drain(ctx));
  EQUAL(20 * 1002, n);
  CHECK(file_size(in(path, "00000000")) > 0);
  n = (int)strlen(drained(path, "end"));
  EQUAL(20 * 1002, n);
  EQUAL(-1, file_size(in(path, "00000000")));
  OK(ctx, jlog_ctx_first_log_id(ctx, &id));
  CHECK(id.log > 0 && id.log <= number);
  EQUAL(1, jlog_ctx_remove_subscriber(ctx, "end"));
  OK(ctx, jlog_ctx_add_subscriber_copy_checkpoint(ctx, "copy", "s"));
  OK(out, jlog_ctx_alter_journal_size(out, 8192));
  EQUAL(0, jlog_ctx_close(ctx));
  EQUAL(0, jlog_ctx_close(out));
  TEXT("", drained(path, "copy"));
  ctx = jlog_new(path);
  CHECK(jlog_raw_size(ctx) > 1000);
  EQUAL(0, jlog_inspect_datafile(ctx, number, 0));
  EQUAL(0, jlog_repair_datafile(ctx, number));
  EQUAL(0, jlog_ctx_close(ctx));
  EQUAL(0, jlog_clean(path));

  claim("a message without bytes is one");
  out = writer(path);
  OK(out, jlog_ctx_write(out, NULL, 0));
  EQUAL(0, jlog_ctx_close(out));
  TEXT("[]", drained(path, "copy"));
}

/* The place of a text in a file, or -1. */
static long long place_of(const char *path, const char *text) {
  static char bytes[1 << 20];
  size_t n = read_file(path, bytes, sizeof bytes);
  char *found = memmem(bytes, n, text, strlen(text));
  return found ? found - bytes : -1;
}

static void a_flipped_byte(void) {
  const char *path = at("flipped");
  jlog_id first, last;
  jlog_message message;
  jlog_ctx *ctx;
  int n;

  claim("a byte that changed inside a message is noticed, and its file is told of");
  make(path, JLOG_FORMAT_CHECKSUMMED, 4194304);
  ctx = writer(path);
  put_numbered(ctx, 1, 3);
  EQUAL(0, jlog_ctx_close(ctx));
  long long place = place_of(in(path, "00000000"), "message 02");
  CHECK(place > 0);
  overwrite(in(path, "00000000"), place, "M", 1);
  ctx = reader(path, "s");
  n = jlog_ctx_read_interval(ctx, &first, &last);
  /* The one before it may be read; the one that changed may not. */
  for (; n > 0; n--, JLOG_ID_ADVANCE(&first)) {
    if (jlog_ctx_read_message(ctx, &first, &message)) {
      n = -1;
      break;
    }
    CHECK(memmem(message.mess, message.mess_len, "Message", 7) == NULL);
    OK(ctx, jlog_ctx_read_checkpoint(ctx, &first));
  }
  if (n == 0) n = jlog_ctx_read_interval(ctx, &first, &last);
  EQUAL(-1, n);
  EQUAL(JLOG_ERR_FILE_CORRUPT, jlog_ctx_err(ctx));
  CHECK(strstr(jlog_ctx_err_detail(ctx), "00000000") != NULL);
  EQUAL(0, jlog_ctx_close(ctx));
}

static void mended_while_written(void) {
  const char *path = at("mended"), *segment = in(path, "00000000");
  jlog_ctx *ctx;
  jlog_id first, last;

  claim("what a repair has mended in the segment that is written to is passed over, and told of as that");
  make(path, JLOG_FORMAT_CHECKSUMMED, 1 << 20);
  ctx = writer(path);
  put_numbered(ctx, 1, 3);
  jlog_ctx_close(ctx);
  overwrite(segment, place_of(segment, "message 02"), "X", 1);
  ctx = reader(path, "s");
  TEXT("JLOG_ERR_FILE_CORRUPT", drain(ctx));
  CHECK(jlog_repair_datafile(ctx, 0) > 0);
  jlog_ctx_close(ctx);
  ctx = writer(path);
  put_numbered(ctx, 4, 4);
  jlog_ctx_close(ctx);
  ctx = reader(path, "s");
  TEXT("[message 03][message 04]", drain(ctx));
  EQUAL(0, jlog_ctx_read_interval(ctx, &first, &last));
  jlog_ctx_close(ctx);
}

static void an_owner(void) {
  jlog_ctx *owner, *other;

  claim("who says that he is alone keeps other writers out, and they are told so; nobody waits for ever");
  for (int buffered = 0; buffered < 2; buffered++) {
    const char *path = at("owned-%d", buffered);
    make(path, JLOG_FORMAT_CHECKSUMMED, 4096);
    owner = jlog_new(path);
    if (buffered)
      jlog_ctx_set_pre_commit_buffer_size(owner, 100);
    else
      jlog_ctx_set_multi_process(owner, 0);
    OK(owner, jlog_ctx_open_writer(owner));
    put_numbered(owner, 1, 2);
    alarm(60);
    EQUAL(0, jlog_clean(path));
    other = jlog_new(path);
    FAILS(other, JLOG_ERR_LOCK, jlog_ctx_open_writer(other));
    EQUAL(0, jlog_ctx_close(other));
    alarm(0);
    put_numbered(owner, 3, 3);
    EQUAL(0, jlog_ctx_close(owner));
    other = writer(path);
    put_numbered(other, 4, 4);
    EQUAL(0, jlog_ctx_close(other));
    TEXT("[message 01][message 02][message 03][message 04]", drained(path, "s"));
  }
}

/* ---- durability ---- */

/* How many syncs ten writes take, with what is set or what the environment says. */
static int syncs_of_ten(const char *path, int level, unsigned milliseconds) {
  jlog_ctx *ctx = jlog_new(path);
  if (level >= 0) OK(ctx, jlog_ctx_set_durability(ctx, (jlog_durability)level, milliseconds));
  OK(ctx, jlog_ctx_open_writer(ctx));
  OK(ctx, put(ctx, "the first may make a segment"));
  int before = syncs;
  for (int i = 0; i < 10; i++) OK(ctx, put(ctx, "one of ten"));
  int used = syncs - before;
  before = syncs;
  OK(ctx, jlog_ctx_sync(ctx));
  if (level == JLOG_DURABILITY_PROCESS) CHECK(syncs > before);
  EQUAL(0, jlog_ctx_close(ctx));
  return used;
}

static void durability_of(int format) {
  const char *path = at("durable-%d", format);
  const char *misspelt[] = {"sometimes", "interval", "interval:", "interval:x", "group:-1", "sync:1", "SYNC "};
  jlog_ctx *ctx;

  make(path, format, 4194304);
  unsetenv("JLOG_DURABILITY");
  claim("the program says what a write promises");
  CHECK(syncs_of_ten(path, JLOG_DURABILITY_SYNC, 0) >= 10);
  CHECK(syncs_of_ten(path, JLOG_DURABILITY_GROUP, 1) >= 10);
  EQUAL(0, syncs_of_ten(path, JLOG_DURABILITY_PROCESS, 0));
  CHECK(syncs_of_ten(path, JLOG_DURABILITY_INTERVAL, 60000) <= 1);

  claim("the environment says it where the program does not");
  setenv("JLOG_DURABILITY", "sync", 1);
  CHECK(syncs_of_ten(path, -1, 0) >= 10);
  EQUAL(0, syncs_of_ten(path, JLOG_DURABILITY_PROCESS, 0));
  setenv("JLOG_DURABILITY", "process", 1);
  EQUAL(0, syncs_of_ten(path, -1, 0));
  CHECK(syncs_of_ten(path, JLOG_DURABILITY_SYNC, 0) >= 10);
  setenv("JLOG_DURABILITY", "group:1", 1);
  CHECK(syncs_of_ten(path, -1, 0) >= 10);
  setenv("JLOG_DURABILITY", "interval:60000", 1);
  CHECK(syncs_of_ten(path, -1, 0) <= 1);

  setenv("JLOG_DURABILITY", "", 1);
  CHECK((syncs_of_ten(path, -1, 0) >= 10) == (format == JLOG_FORMAT_CHECKSUMMED));

  claim("a promise that is misspelt opens no writer");
  for (size_t i = 0; i < sizeof misspelt / sizeof *misspelt; i++) {
    setenv("JLOG_DURABILITY", misspelt[i], 1);
    ctx = jlog_new(path);
    FAILS(ctx, JLOG_ERR_NOT_SUPPORTED, jlog_ctx_open_writer(ctx));
    CHECK(strstr(jlog_ctx_err_detail(ctx), "JLOG_DURABILITY") != NULL);
    EQUAL(0, jlog_ctx_close(ctx));
  }
  EQUAL(0, jlog_ctx_close(reader(path, "s")));
  unsetenv("JLOG_DURABILITY");

  claim("a level that is none, and a context that is open, are refused");
  ctx = jlog_new(path);
  FAILS(ctx, JLOG_ERR_NOT_SUPPORTED, jlog_ctx_set_durability(ctx, (jlog_durability)5, 0));
  OK(ctx, jlog_ctx_set_durability(ctx, JLOG_DURABILITY_SYNC, 0));
  OK(ctx, jlog_ctx_set_durability(ctx, JLOG_DURABILITY_DEFAULT, 0));
  OK(ctx, jlog_ctx_open_writer(ctx));
  FAILS(ctx, JLOG_ERR_ILLEGAL_OPEN, jlog_ctx_set_durability(ctx, JLOG_DURABILITY_SYNC, 0));
  EQUAL(0, jlog_ctx_close(ctx));
}

static void safety_levels(void) {
  jlog_ctx *ctx;

  claim("a classic log at JLOG_SAFE syncs each message, at the other levels none");
  for (int safety = JLOG_UNSAFE; safety <= JLOG_SAFE; safety++) {
    const char *path = at("safety-%d", safety);
    ctx = jlog_new(path);
    OK(ctx, jlog_ctx_alter_safety(ctx, (jlog_safety)safety));
    OK(ctx, jlog_ctx_init(ctx));
    EQUAL(0, jlog_ctx_close(ctx));
    int used = syncs_of_ten(path, JLOG_DURABILITY_DEFAULT, 0);
    check_that(safety == JLOG_SAFE ? used >= 10 : used == 0, __FILE__, __LINE__, "level %d: %d syncs", safety, used);
  }

  claim("a level that is set while messages are written is that of the next one");
  for (int format = JLOG_FORMAT_CLASSIC; format <= JLOG_FORMAT_CHECKSUMMED; format++) {
    const char *path = at("raised-%d", format);
    make(path, format, 65536);
    ctx = writer(path);
    OK(ctx, jlog_ctx_alter_safety(ctx, JLOG_UNSAFE));
    put_numbered(ctx, 1, 1);
    syncs = 0;
    put_numbered(ctx, 2, 2);
    EQUAL(0, syncs);
    OK(ctx, jlog_ctx_alter_safety(ctx, JLOG_SAFE));
    put_numbered(ctx, 3, 3);
    syncs = 0;
    put_numbered(ctx, 4, 6);
    CHECK(syncs >= 3);
    jlog_ctx_close(ctx);
    TEXT("[message 01][message 02][message 03][message 04][message 05][message 06]", drained(path, "s"));
  }
}

static void syncing(void) {
  const char *path = at("synced");
  jlog_id first, last;
  jlog_ctx *ctx, *behind;

  claim("a sync brings what is buffered to the readers, and to the disk");
  make_log(path, 4194304);
  ctx = jlog_new(path);
  jlog_ctx_set_pre_commit_buffer_size(ctx, 4096);
  OK(ctx, jlog_ctx_open_writer(ctx));
  put_numbered(ctx, 1, 3);
  behind = reader(path, "s");
  EQUAL(0, jlog_ctx_read_interval(behind, &first, &last));
  int before = syncs;
  OK(ctx, jlog_ctx_sync(ctx));
  CHECK(syncs > before);
  EQUAL(3, jlog_ctx_read_interval(behind, &first, &last));
  EQUAL(78, file_size(in(path, "00000000")));

  claim("who is no writer syncs nothing");
  FAILS(behind, JLOG_ERR_ILLEGAL_WRITE, jlog_ctx_sync(behind));
  EQUAL(0, jlog_ctx_close(behind));
  EQUAL(0, jlog_ctx_close(ctx));
  ctx = jlog_new(path);
  FAILS(ctx, JLOG_ERR_ILLEGAL_WRITE, jlog_ctx_sync(ctx));
  EQUAL(0, jlog_ctx_close(ctx));
}

static void *fail_otherwise(void *ctx) {
  jlog_id id;
  FAILS(ctx, JLOG_ERR_ILLEGAL_WRITE, jlog_ctx_read_interval(ctx, &id, &id));
  CHECK(jlog_ctx_err_detail(ctx)[0] != '\0');
  return NULL;
}

static void words_for_errors(void) {
  const char *path = at("worded"), *words;
  char copy[1024];
  pthread_t thread;
  jlog_ctx *ctx;
  jlog_id id = {0, 9};
  jlog_message message;

  claim("where there is no error there are no words");
  ctx = jlog_new(at("missing"));
  TEXT("", jlog_ctx_err_detail(ctx));
  claim("an error is told of with its path");
  FAILS(ctx, JLOG_ERR_OPEN, jlog_ctx_open_writer(ctx));
  CHECK(strstr(jlog_ctx_err_detail(ctx), at("missing")) != NULL);
  EQUAL(0, jlog_ctx_close(ctx));

  make_log(path, 4194304);
  ctx = writer(path);
  put_numbered(ctx, 1, 1);
  EQUAL(0, jlog_ctx_close(ctx));
  ctx = reader(path, "s");
  FAILS(ctx, JLOG_ERR_ILLEGAL_LOGID, jlog_ctx_read_message(ctx, &id, &message));
  CHECK(jlog_ctx_err_detail(ctx)[0] != '\0');
  claim("a call that succeeds takes the words away");
  id.marker = 1;
  OK(ctx, jlog_ctx_read_message(ctx, &id, &message));
  TEXT("", jlog_ctx_err_detail(ctx));
  EQUAL(0, jlog_ctx_close(ctx));

  claim("words that a thread has asked for stay as they are while another one's call fails");
  ctx = writer(path);
  FAILS(ctx, JLOG_ERR_FILE_WRITE, jlog_ctx_write(ctx, NULL, 5));
  words = jlog_ctx_err_detail(ctx);
  snprintf(copy, sizeof copy, "%s", words);
  CHECK(copy[0] != '\0');
  pthread_create(&thread, NULL, fail_otherwise, ctx);
  pthread_join(thread, NULL);
  TEXT(copy, words);
  CHECK(strcmp(copy, jlog_ctx_err_detail(ctx)));
  EQUAL(0, jlog_ctx_close(ctx));

  claim("without a context the extensions fail");
  EQUAL(-1, jlog_ctx_set_format(NULL, JLOG_FORMAT_CLASSIC));
  EQUAL(-1, jlog_ctx_set_durability(NULL, JLOG_DURABILITY_SYNC, 0));
  EQUAL(-1, jlog_ctx_sync(NULL));
  TEXT("", jlog_ctx_err_detail(NULL));
}

int main(int argc, char **argv) {
  begin(argc, argv);
  choosing_a_format();
  the_same_program();
  a_flipped_byte();
  mended_while_written();
  an_owner();
  durability_of(JLOG_FORMAT_CLASSIC);
  durability_of(JLOG_FORMAT_CHECKSUMMED);
  safety_levels();
  syncing();
  words_for_errors();
  return finish();
}
