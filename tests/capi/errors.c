/* Every error that can be brought about is, and bad input of every kind: an answer, never a crash, and nothing changed.
 *
 * Six errors of the enumeration are not among them: nothing a program does brings about JLOG_ERR_LOCK,
 * JLOG_ERR_IDX_SEEK and JLOG_ERR_FILE_SEEK; JLOG_ERR_IDX_WRITE and JLOG_ERR_IDX_READ are of an index that a reader can
 * do without. JLOG_ERR_CREATE_PRE_COMMIT is reported as JLOG_ERR_PRE_COMMIT_OPEN. */
#include "check.h"

#include <sys/resource.h>

static unsigned char produced[JLOG_ERR_CLOSE_LOGID + 1];

/* The call failed, with this error, this errno, and their name; the one after it may succeed. */
static void failed(jlog_ctx *ctx, int code, int number, int result, const char *call, int line) {
  check_that(result == -1 && jlog_ctx_err(ctx) == code, __FILE__, line, "%s: expected -1 %s, found %d %s", call,
             jlog_err_string(code), result, jlog_ctx_err_string(ctx));
  check_that(number < 0 || jlog_ctx_errno(ctx) == number, __FILE__, line, "%s: expected errno %d, found %d", call,
             number, jlog_ctx_errno(ctx));
  check_text(jlog_err_string(code), jlog_ctx_err_string(ctx), call, __FILE__, line);
  produced[code] = 1;
}
#define FAILED(ctx, code, number, call) failed((ctx), (code), (number), (call), #call, __LINE__)
#define ANY_ERRNO -1

static void names_of_errors(void) {
  static const char *const names[] = {
      "JLOG_ERR_SUCCESS",         "JLOG_ERR_ILLEGAL_INIT",      "JLOG_ERR_ILLEGAL_OPEN",
      "JLOG_ERR_OPEN",            "JLOG_ERR_NOTDIR",            "JLOG_ERR_CREATE_PATHLEN",
      "JLOG_ERR_CREATE_EXISTS",   "JLOG_ERR_CREATE_MKDIR",      "JLOG_ERR_CREATE_META",
      "Unknown",                  "JLOG_ERR_LOCK",              "JLOG_ERR_IDX_OPEN",
      "JLOG_ERR_IDX_SEEK",        "JLOG_ERR_IDX_CORRUPT",       "JLOG_ERR_IDX_WRITE",
      "JLOG_ERR_IDX_READ",        "JLOG_ERR_FILE_OPEN",         "JLOG_ERR_FILE_SEEK",
      "JLOG_ERR_FILE_CORRUPT",    "JLOG_ERR_FILE_READ",         "JLOG_ERR_FILE_WRITE",
      "JLOG_ERR_META_OPEN",       "Unknown",                    "JLOG_ERR_ILLEGAL_WRITE",
      "JLOG_ERR_ILLEGAL_CHECKPOINT", "JLOG_ERR_INVALID_SUBSCRIBER", "JLOG_ERR_ILLEGAL_LOGID",
      "JLOG_ERR_SUBSCRIBER_EXISTS", "JLOG_ERR_CHECKPOINT",      "JLOG_ERR_NOT_SUPPORTED",
      "JLOG_ERR_CLOSE_LOGID"};
  claim("errors have the names of their constants");
  for (int i = 0; i <= JLOG_ERR_CLOSE_LOGID; i++) TEXT(names[i], jlog_err_string(i));
  TEXT("Unknown", jlog_err_string(-1));
  TEXT("Unknown", jlog_err_string(31));
  TEXT("Unknown", jlog_err_string(INT_MAX));
  TEXT("Unknown", jlog_err_string(INT_MIN));
}

static char *path_of_length(size_t length) {
  static char path[8192];
  memset(path, 'p', length);
  for (size_t i = 0; i < length; i += 200) path[i] = '/';
  path[length - 1] = 'e';
  path[length] = '\0';
  return path;
}

static void making_and_opening(void) {
  const char *path = at("opened"), *plain = at("plain");
  struct rlimit limit, none;
  jlog_ctx *ctx;
  int status;

  claim("what is there is not made again, what cannot be made is not");
  make_log(path, 1000);
  ctx = jlog_new(path);
  FAILED(ctx, JLOG_ERR_CREATE_EXISTS, ANY_ERRNO, jlog_ctx_init(ctx));
  FAILED(ctx, JLOG_ERR_ILLEGAL_INIT, ANY_ERRNO, jlog_ctx_init(ctx));
  EQUAL(0, jlog_ctx_close(ctx));
  ctx = jlog_new(at("no/such/folder"));
  FAILED(ctx, JLOG_ERR_CREATE_MKDIR, ENOENT, jlog_ctx_init(ctx));
  EQUAL(0, jlog_ctx_close(ctx));
  ctx = jlog_new(path_of_length(4083));
  FAILED(ctx, JLOG_ERR_CREATE_PATHLEN, ANY_ERRNO, jlog_ctx_init(ctx));
  EQUAL(0, jlog_ctx_close(ctx));
  ctx = jlog_new(path_of_length(4082));
  FAILED(ctx, JLOG_ERR_CREATE_MKDIR, ENOENT, jlog_ctx_init(ctx));
  EQUAL(0, jlog_ctx_close(ctx));
  if (!reference()) {
    ctx = jlog_new(path_of_length(8000));
    CHECK(jlog_ctx_open_writer(ctx) == -1);
    EQUAL(0, jlog_ctx_close(ctx));
    ctx = jlog_new(path_of_length(8000));
    CHECK(jlog_ctx_open_reader(ctx, "s") == -1);
    EQUAL(-1, jlog_ctx_add_subscriber(ctx, "s", JLOG_BEGIN));
    EQUAL(0, jlog_ctx_close(ctx));
    EQUAL(-1, jlog_clean(path_of_length(8000)));
  }

  claim("a metastore that cannot be written is an error of init");
  getrlimit(RLIMIT_FSIZE, &limit);
  none = limit;
  none.rlim_cur = 0;
  signal(SIGXFSZ, SIG_IGN);
  ctx = jlog_new(at("no-room"));
  setrlimit(RLIMIT_FSIZE, &none);
  status = jlog_ctx_init(ctx);
  setrlimit(RLIMIT_FSIZE, &limit);
  FAILED(ctx, JLOG_ERR_CREATE_META, EFBIG, status);
  EQUAL(0, jlog_ctx_close(ctx));

  claim("what is no log is not opened, and why is told");
  write_file(plain, "plain", 5);
  mkdir(at("directory"), 0755);
  for (int as_reader = 0; as_reader < 2; as_reader++) {
#define OPEN(ctx) (as_reader ? jlog_ctx_open_reader(ctx, "s") : jlog_ctx_open_writer(ctx))
    ctx = jlog_new(at("missing"));
    FAILED(ctx, JLOG_ERR_OPEN, ENOENT, OPEN(ctx));
    FAILED(ctx, JLOG_ERR_ILLEGAL_OPEN, ANY_ERRNO, OPEN(ctx));
    EQUAL(0, jlog_ctx_close(ctx));
    ctx = jlog_new(plain);
    FAILED(ctx, JLOG_ERR_NOTDIR, ANY_ERRNO, OPEN(ctx));
    EQUAL(0, jlog_ctx_close(ctx));
    ctx = jlog_new(at("directory"));
    FAILED(ctx, JLOG_ERR_META_OPEN, ENOENT, OPEN(ctx));
    EQUAL(0, jlog_ctx_close(ctx));
    FILES("", at("directory"));
    make_log(at("no-metastore-%d", as_reader), 1000);
    write_file(in(at("no-metastore-%d", as_reader), "metastore"), "", 0);
    ctx = jlog_new(at("no-metastore-%d", as_reader));
    FAILED(ctx, JLOG_ERR_META_OPEN, ANY_ERRNO, OPEN(ctx));
    EQUAL(0, jlog_ctx_close(ctx));
  }

  claim("a pre_commit that cannot be opened is an error of open_writer, a reader does without");
  make_log(at("no-pre_commit"), 1000);
  mkdir(in(at("no-pre_commit"), "pre_commit"), 0755);
  ctx = jlog_new(at("no-pre_commit"));
  FAILED(ctx, JLOG_ERR_PRE_COMMIT_OPEN, ANY_ERRNO, jlog_ctx_open_writer(ctx));
  EQUAL(0, jlog_ctx_close(ctx));
  EQUAL(0, jlog_ctx_close(reader(at("no-pre_commit"), "s")));

  claim("an open context is not opened again, nor made");
  ctx = writer(path);
  FAILED(ctx, JLOG_ERR_ILLEGAL_OPEN, ANY_ERRNO, jlog_ctx_open_writer(ctx));
  FAILED(ctx, JLOG_ERR_ILLEGAL_OPEN, ANY_ERRNO, jlog_ctx_open_reader(ctx, "s"));
  FAILED(ctx, JLOG_ERR_ILLEGAL_INIT, ANY_ERRNO, jlog_ctx_init(ctx));
  OK(ctx, put(ctx, "still open"));
  EQUAL(JLOG_ERR_SUCCESS, jlog_ctx_err(ctx));
  EQUAL(0, jlog_ctx_close(ctx));
  TEXT("[still open]", drained(path, "s"));

  claim("a context whose open failed answers every call, and closes");
  ctx = jlog_new(at("missing"));
  FAILED(ctx, JLOG_ERR_OPEN, ENOENT, jlog_ctx_open_writer(ctx));
  jlog_id id = {0, 1}, other = {0, 3};
  char **names;
  FAILED(ctx, JLOG_ERR_ILLEGAL_OPEN, ANY_ERRNO, jlog_ctx_open_reader(ctx, "s"));
  FAILED(ctx, JLOG_ERR_ILLEGAL_WRITE, EPERM, put(ctx, "no"));
  FAILED(ctx, JLOG_ERR_ILLEGAL_WRITE, EPERM, jlog_ctx_read_interval(ctx, &id, &other));
  FAILED(ctx, JLOG_ERR_ILLEGAL_CHECKPOINT, EPERM, jlog_ctx_read_checkpoint(ctx, &id));
  FAILED(ctx, JLOG_ERR_ILLEGAL_WRITE, EPERM, jlog_ctx_last_log_id(ctx, &id));
  EQUAL(0, jlog_ctx_flush_pre_commit_buffer(ctx));
  EQUAL(-1, jlog_ctx_list_subscribers(ctx, &names));
  EQUAL(-1, jlog_ctx_first_log_id(ctx, &id));
  EQUAL(0, jlog_raw_size(ctx));
  EQUAL(0, jlog_ctx_close(ctx));
  FILES("no directory", at("missing"));
}

static void subscribers_that_are_not(void) {
  const char *path = at("named");
  char name[5001];
  jlog_id id = {0, 0};
  jlog_ctx *ctx;
  int lengths[] = {127, 128, 2000, 5000};

  claim("who is no subscriber opens no reader");
  make_log(path, 1000);
  ctx = jlog_new(path);
  FAILED(ctx, JLOG_ERR_INVALID_SUBSCRIBER, ENOENT, jlog_ctx_open_reader(ctx, "nosuch"));
  EQUAL(0, jlog_ctx_close(ctx));
  write_file(in(path, "cp.73686f7274"), "abc", 3);
  ctx = jlog_new(path);
  FAILED(ctx, JLOG_ERR_INVALID_SUBSCRIBER, ANY_ERRNO, jlog_ctx_open_reader(ctx, "short"));
  EQUAL(0, jlog_ctx_close(ctx));
  unlink(in(path, "cp.73686f7274"));

  /* Programs look at errno itself for EEXIST here. */
  claim("a subscriber is added once");
  ctx = jlog_new(path);
  errno = 0;
  FAILED(ctx, JLOG_ERR_SUBSCRIBER_EXISTS, EEXIST, jlog_ctx_add_subscriber(ctx, "s", JLOG_BEGIN));
  errno = 0;
  jlog_ctx_add_subscriber(ctx, "s", JLOG_END);
  EQUAL(EEXIST, errno);

  claim("a beginning that is neither is refused");
  FAILED(ctx, JLOG_ERR_NOT_SUPPORTED, ANY_ERRNO, jlog_ctx_add_subscriber(ctx, "whence", (jlog_position)2));
  FAILED(ctx, JLOG_ERR_NOT_SUPPORTED, ANY_ERRNO, jlog_ctx_add_subscriber(ctx, "whither", (jlog_position)-1));
  /* libjlog leaves a file without a checkpoint. */
  if (!reference()) FILES("cp.73=8 metastore=16", path);
  EQUAL(0, jlog_ctx_close(ctx));

  claim("a name that makes no file name is refused");
  make_log(at("long-named"), 1000);
  for (int i = 0; i < (reference() ? 2 : 4); i++) {
    memset(name, 'n', sizeof name);
    name[lengths[i]] = '\0';
    ctx = jlog_new(at("long-named"));
    FAILED(ctx, JLOG_ERR_OPEN, ENAMETOOLONG, jlog_ctx_add_subscriber(ctx, name, JLOG_BEGIN));
    FAILED(ctx, JLOG_ERR_OPEN, ENAMETOOLONG, jlog_ctx_add_subscriber(ctx, name, JLOG_END));
    FAILED(ctx, JLOG_ERR_OPEN, ENAMETOOLONG, jlog_ctx_set_subscriber_checkpoint(ctx, name, &id));
    EQUAL(-1, jlog_get_checkpoint(ctx, name, &id));
    EQUAL(-1, jlog_ctx_remove_subscriber(ctx, name));
    EQUAL(-1, jlog_ctx_add_subscriber_copy_checkpoint(ctx, name, "s"));
    EQUAL(-1, jlog_ctx_add_subscriber_copy_checkpoint(ctx, "copy", name));
    FAILED(ctx, JLOG_ERR_INVALID_SUBSCRIBER, ENAMETOOLONG, jlog_ctx_open_reader(ctx, name));
    EQUAL(0, jlog_ctx_close(ctx));
    FILES("cp.73=8 metastore=16", at("long-named"));
  }
}

/* Four messages in segment 0, which is finished, one in segment 1. */
static const char *log_of_two(const char *name) {
  const char *path = at("%s", name);
  make_log(path, 100);
  jlog_ctx *ctx = writer(path);
  put_numbered(ctx, 1, 5);
  EQUAL(0, jlog_ctx_close(ctx));
  return path;
}

static void reads_that_fail(int method) {
  const char *path = log_of_two(at("ids-%d", method) + strlen(check_scratch) + 1);
  jlog_ctx *ctx = jlog_new(path);
  jlog_message message, many[8];
  jlog_id first, last, id;

  OK(ctx, jlog_ctx_alter_read_method(ctx, (jlog_read_method_type)method));
  OK(ctx, jlog_ctx_open_reader(ctx, "s"));
  EQUAL(4, jlog_ctx_read_interval(ctx, &first, &last));

  claim("an id that is no message's is refused");
  id = (jlog_id){0, 0};
  FAILED(ctx, JLOG_ERR_ILLEGAL_LOGID, ANY_ERRNO, jlog_ctx_read_message(ctx, &id, &message));
  FAILED(ctx, JLOG_ERR_ILLEGAL_LOGID, ANY_ERRNO, jlog_ctx_bulk_read_messages(ctx, &id, 1, many));
  id = (jlog_id){0, 5};
  FAILED(ctx, JLOG_ERR_CLOSE_LOGID, ANY_ERRNO, jlog_ctx_read_message(ctx, &id, &message));
  FAILED(ctx, JLOG_ERR_CLOSE_LOGID, ANY_ERRNO, jlog_ctx_bulk_read_messages(ctx, &id, 1, many));
  id = (jlog_id){0, 6};
  FAILED(ctx, JLOG_ERR_ILLEGAL_LOGID, ANY_ERRNO, jlog_ctx_read_message(ctx, &id, &message));
  FAILED(ctx, JLOG_ERR_ILLEGAL_LOGID, ANY_ERRNO, jlog_ctx_bulk_read_messages(ctx, &id, 1, many));
  id = (jlog_id){0, UINT32_MAX};
  FAILED(ctx, JLOG_ERR_ILLEGAL_LOGID, ANY_ERRNO, jlog_ctx_read_message(ctx, &id, &message));
  id = (jlog_id){1, 2};
  FAILED(ctx, JLOG_ERR_ILLEGAL_LOGID, ANY_ERRNO, jlog_ctx_read_message(ctx, &id, &message));

  claim("a bulk read does not go beyond its segment");
  id = (jlog_id){0, 3};
  EQUAL(-1, jlog_ctx_bulk_read_messages(ctx, &id, 3, many));
  CHECK(jlog_ctx_err(ctx) != JLOG_ERR_SUCCESS);
  EQUAL(0, jlog_ctx_bulk_read_messages(ctx, &id, -1, many));
  OK(ctx, jlog_ctx_bulk_read_messages(ctx, &id, 2, many));
  CHECK(many[1].mess_len == 10 && !memcmp(many[1].mess, "message 04", 10));

  /* libjlog does not survive these. */
  if (!reference()) {
    claim("a segment that is not there has no messages");
    for (uint32_t log = 2; log != 0; log = log == 2 ? 5 : log == 5 ? UINT32_MAX : 0) {
      id = (jlog_id){log, 1};
      FAILED(ctx, JLOG_ERR_FILE_OPEN, ENOENT, jlog_ctx_read_message(ctx, &id, &message));
      FAILED(ctx, JLOG_ERR_FILE_OPEN, ENOENT, jlog_ctx_bulk_read_messages(ctx, &id, 1, many));
      id.marker = 0;
      CHECK(jlog_ctx_read_message(ctx, &id, &message) == -1);
    }
    CHECK(file_size(in(path, "00000005")) == -1 && file_size(in(path, "00000005.idx")) == -1);
    id = (jlog_id){0, 1};
    EQUAL(-1, jlog_ctx_bulk_read_messages(ctx, &id, INT_MAX, many));
  }

  claim("a reader goes on after a read that failed");
  id = (jlog_id){0, 1};
  OK(ctx, jlog_ctx_read_message(ctx, &id, &message));
  CHECK(message.mess_len == 10 && !memcmp(message.mess, "message 01", 10));
  EQUAL(4, jlog_ctx_read_interval(ctx, &first, &last));
  TEXT("[message 01][message 02][message 03][message 04][message 05]", drain(ctx));
  EQUAL(0, jlog_ctx_close(ctx));
}

static void contexts_of_another_kind(void) {
  const char *path = log_of_two("kinds");
  jlog_id id = {0, 1}, other = {0, 1};
  jlog_message message;
  uint32_t number;
  jlog_ctx *ctx;

  claim("a writer does not read, a reader does not write");
  ctx = writer(path);
  FAILED(ctx, JLOG_ERR_ILLEGAL_WRITE, EPERM, jlog_ctx_read_interval(ctx, &id, &other));
  FAILED(ctx, JLOG_ERR_ILLEGAL_WRITE, EPERM, jlog_ctx_last_log_id(ctx, &id));
  FAILED(ctx, JLOG_ERR_ILLEGAL_WRITE, EPERM, jlog_ctx_last_storage_log(ctx, &number));
  FAILED(ctx, JLOG_ERR_ILLEGAL_CHECKPOINT, EPERM, jlog_ctx_read_checkpoint(ctx, &id));
  /* In libjlog the read that is refused makes the writer write to the segment that was asked for. */
  if (!reference()) {
    FAILED(ctx, JLOG_ERR_ILLEGAL_WRITE, ANY_ERRNO, jlog_ctx_read_message(ctx, &id, &message));
    FAILED(ctx, JLOG_ERR_ILLEGAL_WRITE, ANY_ERRNO, jlog_ctx_bulk_read_messages(ctx, &id, 1, &message));
    OK(ctx, jlog_ctx_alter_journal_size(ctx, 4096));
    put_numbered(ctx, 6, 6);
    EQUAL(104, file_size(in(path, "00000000")));
  }
  EQUAL(0, jlog_ctx_close(ctx));

  ctx = reader(path, "s");
  FAILED(ctx, JLOG_ERR_ILLEGAL_WRITE, EPERM, put(ctx, "no"));
  FAILED(ctx, JLOG_ERR_ILLEGAL_INIT, ANY_ERRNO, jlog_ctx_init(ctx));
  EQUAL(1, jlog_ctx_repair(ctx, 1));
  EQUAL(JLOG_ERR_ILLEGAL_WRITE, jlog_ctx_err(ctx));
  EQUAL(0, jlog_ctx_close(ctx));

  claim("a read method that is none is found out when reading");
  ctx = reader(path, "s");
  EQUAL(0, jlog_ctx_alter_read_method(ctx, (jlog_read_method_type)9));
  id = (jlog_id){0, 1};
  FAILED(ctx, JLOG_ERR_NOT_SUPPORTED, ANY_ERRNO, jlog_ctx_read_message(ctx, &id, &message));
  EQUAL(0, jlog_ctx_close(ctx));
}

static void files_that_are_wrong(void) {
  const char *path = log_of_two("wrong");
  jlog_id first, last, id;
  uint32_t marker;
  int closed, status;
  jlog_ctx *ctx;

  claim("an index that is no index is told of");
  ctx = jlog_new(path);
  write_file(in(path, "00000000.idx"), "abcde", 5);
  FAILED(ctx, JLOG_ERR_IDX_CORRUPT, ANY_ERRNO, jlog_idx_details(ctx, 0, &marker, &closed));
  unlink(in(path, "00000000.idx"));
  mkdir(in(path, "00000001.idx"), 0755);
  FAILED(ctx, JLOG_ERR_IDX_OPEN, ANY_ERRNO, jlog_idx_details(ctx, 1, &marker, &closed));
  rmdir(in(path, "00000001.idx"));
  FAILED(ctx, JLOG_ERR_FILE_OPEN, ENOENT, jlog_inspect_datafile(ctx, 9, 0));
  EQUAL(0, jlog_ctx_close(ctx));

  claim("an index that does not fit is made anew by reading");
  write_file(in(path, "00000000.idx"), "abcde", 5);
  TEXT("[message 01][message 02][message 03][message 04][message 05]", drained(path, "s"));

  claim("there is no last message before there is a segment");
  make_log(at("unwritten"), 100);
  ctx = reader(at("unwritten"), "s");
  FAILED(ctx, JLOG_ERR_FILE_OPEN, ENOENT, jlog_ctx_last_log_id(ctx, &id));
  EQUAL(0, jlog_ctx_close(ctx));

  claim("an empty segment cannot be inspected, one that is a directory not be written");
  write_file(in(at("unwritten"), "00000000"), "", 0);
  ctx = jlog_new(at("unwritten"));
  FAILED(ctx, JLOG_ERR_FILE_READ, EINVAL, jlog_inspect_datafile(ctx, 0, 0));
  EQUAL(0, jlog_ctx_close(ctx));
  unlink(in(at("unwritten"), "00000000"));
  mkdir(in(at("unwritten"), "00000000"), 0755);
  ctx = jlog_new(at("unwritten"));
  status = jlog_ctx_open_writer(ctx);
  if (status == 0) FAILED(ctx, JLOG_ERR_FILE_OPEN, ANY_ERRNO, put(ctx, "no"));
  CHECK(jlog_ctx_err(ctx) == JLOG_ERR_FILE_OPEN);
  EQUAL(0, jlog_ctx_close(ctx));

  claim("damage in the segment being written is an error of reading");
  make_log(at("damaged"), 4194304);
  ctx = writer(at("damaged"));
  put_numbered(ctx, 1, 4);
  EQUAL(0, jlog_ctx_close(ctx));
  overwrite(in(at("damaged"), "00000000"), 0, "garbage", 7);
  ctx = reader(at("damaged"), "s");
  FAILED(ctx, JLOG_ERR_FILE_CORRUPT, ANY_ERRNO, jlog_ctx_read_interval(ctx, &first, &last));
  FAILED(ctx, JLOG_ERR_FILE_CORRUPT, ANY_ERRNO, jlog_ctx_read_interval(ctx, &first, &last));
  EQUAL(0, jlog_ctx_close(ctx));
  EQUAL(104, file_size(in(at("damaged"), "00000000")));

  claim("a checkpoint beyond the end is put to the end");
  make_log(at("beyond"), 4194304);
  ctx = writer(at("beyond"));
  put_numbered(ctx, 1, 2);
  EQUAL(0, jlog_ctx_close(ctx));
  ctx = reader(at("beyond"), "s");
  id = (jlog_id){0, 50};
  OK(ctx, jlog_ctx_read_checkpoint(ctx, &id));
  catch_stderr(at("said"));
  status = jlog_ctx_read_interval(ctx, &first, &last);
  caught_stderr(at("said"));
  EQUAL(0, status);
  OK(ctx, jlog_get_checkpoint(ctx, NULL, &id));
  ID(0, 2, id);
  EQUAL(0, jlog_ctx_close(ctx));
  ctx = writer(at("beyond"));
  put_numbered(ctx, 3, 3);
  EQUAL(0, jlog_ctx_close(ctx));
  TEXT("[message 03]", drained(at("beyond"), "s"));

  claim("a repair that put a checkpoint right says so");
  ctx = jlog_new(at("beyond"));
  id = (jlog_id){0, 50};
  OK(ctx, jlog_ctx_set_subscriber_checkpoint(ctx, "s", &id));
  EQUAL(1, jlog_ctx_repair(ctx, 0));
  EQUAL(JLOG_ERR_CHECKPOINT, jlog_ctx_err(ctx));
  produced[JLOG_ERR_CHECKPOINT] = 1;
  EQUAL(0, jlog_ctx_close(ctx));
}

/* A limit on the size of files stands for a full disk. */
static void no_room(void) {
  const char *path = at("full");
  struct rlimit limit, full;
  jlog_ctx *ctx;
  int status;

  claim("a message for which there is no room is not in the log, and the log goes on when there is");
  make_log(path, 4194304);
  ctx = writer(path);
  put_numbered(ctx, 1, 2);
  signal(SIGXFSZ, SIG_IGN);
  getrlimit(RLIMIT_FSIZE, &limit);
  full = limit;
  full.rlim_cur = 52;
  setrlimit(RLIMIT_FSIZE, &full);
  status = put(ctx, "does not fit");
  setrlimit(RLIMIT_FSIZE, &limit);
  FAILED(ctx, JLOG_ERR_FILE_WRITE, EFBIG, status);
  EQUAL(52, file_size(in(path, "00000000")));
  put_numbered(ctx, 3, 3);

  /* libjlog tries again for ever. */
  if (!reference()) {
    claim("a message for which there is not enough room leaves nothing behind");
    full.rlim_cur = 90;
    setrlimit(RLIMIT_FSIZE, &full);
    status = put(ctx, "does not fit");
    setrlimit(RLIMIT_FSIZE, &limit);
    FAILED(ctx, JLOG_ERR_FILE_WRITE, EFBIG, status);
    EQUAL(78, file_size(in(path, "00000000")));
    put_numbered(ctx, 4, 4);
  }
  EQUAL(0, jlog_ctx_close(ctx));
  TEXT(reference() ? "[message 01][message 02][message 03]" : "[message 01][message 02][message 03][message 04]",
       drained(path, "s"));
}

/* ---- what libjlog does not survive ---- */

/* -1, with an error told of. */
static void refused(jlog_ctx *ctx, int result, const char *call, int line) {
  check_number(-1, result, call, __FILE__, line);
  if (ctx) check_that(jlog_ctx_err(ctx) != JLOG_ERR_SUCCESS, __FILE__, line, "%s: no error told of", call);
}
#define REFUSED(ctx, call) refused((ctx), (call), #call, __LINE__)

static void pointers_to_nothing(void) {
  const char *path = log_of_two("nothing");
  jlog_ctx *ctx;
  jlog_id id = {0, 1}, other = {0, 2};
  jlog_message message = {.mess = "m", .mess_len = 1};
  uint32_t number;
  char **names, text[20] = "untouched";
  int closed;

  claim("without a context everything fails, and nothing else happens");
  errno = 0;
  CHECK(jlog_new(NULL) == NULL);
  EQUAL(EINVAL, errno);
  CHECK(jlog_ctx_err(NULL) != JLOG_ERR_SUCCESS);
  EQUAL(EINVAL, jlog_ctx_errno(NULL));
  CHECK(jlog_ctx_err_string(NULL) != NULL);
  jlog_set_error_func(NULL, NULL, NULL);
  EQUAL(0, jlog_raw_size(NULL));
  REFUSED(NULL, jlog_ctx_init(NULL));
  REFUSED(NULL, jlog_ctx_open_writer(NULL));
  REFUSED(NULL, jlog_ctx_open_reader(NULL, "s"));
  REFUSED(NULL, jlog_ctx_alter_mode(NULL, 0600));
  REFUSED(NULL, jlog_ctx_alter_journal_size(NULL, 1000));
  REFUSED(NULL, jlog_ctx_alter_safety(NULL, JLOG_SAFE));
  REFUSED(NULL, jlog_ctx_alter_read_method(NULL, JLOG_READ_METHOD_PREAD));
  REFUSED(NULL, jlog_ctx_set_multi_process(NULL, 1));
  REFUSED(NULL, jlog_ctx_set_use_compression(NULL, 1));
  REFUSED(NULL, jlog_ctx_set_compression_provider(NULL, JLOG_COMPRESSION_LZ4));
  REFUSED(NULL, jlog_ctx_set_pre_commit_buffer_size(NULL, 0));
  REFUSED(NULL, jlog_ctx_flush_pre_commit_buffer(NULL));
  REFUSED(NULL, jlog_ctx_add_subscriber(NULL, "n", JLOG_BEGIN));
  REFUSED(NULL, jlog_ctx_add_subscriber_copy_checkpoint(NULL, "n", "s"));
  REFUSED(NULL, jlog_ctx_set_subscriber_checkpoint(NULL, "n", &id));
  REFUSED(NULL, jlog_ctx_remove_subscriber(NULL, "s"));
  REFUSED(NULL, jlog_ctx_list_subscribers(NULL, &names));
  REFUSED(NULL, jlog_get_checkpoint(NULL, "s", &id));
  REFUSED(NULL, jlog_pending_readers(NULL, 0, &number));
  REFUSED(NULL, __jlog_pending_readers(NULL, 0));
  REFUSED(NULL, jlog_ctx_write(NULL, "m", 1));
  REFUSED(NULL, jlog_ctx_write_message(NULL, &message, NULL));
  REFUSED(NULL, jlog_ctx_read_interval(NULL, &id, &other));
  REFUSED(NULL, jlog_ctx_read_message(NULL, &id, &message));
  REFUSED(NULL, jlog_ctx_bulk_read_messages(NULL, &id, 1, &message));
  REFUSED(NULL, jlog_ctx_read_checkpoint(NULL, &id));
  REFUSED(NULL, jlog_ctx_first_log_id(NULL, &id));
  REFUSED(NULL, jlog_ctx_last_log_id(NULL, &id));
  REFUSED(NULL, jlog_ctx_last_storage_log(NULL, &number));
  REFUSED(NULL, jlog_ctx_advance_id(NULL, &id, &id, &other));
  REFUSED(NULL, jlog_ctx_repair(NULL, 0));
  REFUSED(NULL, jlog_repair_datafile(NULL, 0));
  REFUSED(NULL, jlog_inspect_datafile(NULL, 0, 0));
  REFUSED(NULL, jlog_idx_details(NULL, 0, &number, &closed));
  REFUSED(NULL, jlog_clean(NULL));
  CHECK(jlog_ctx_list_subscribers_dispose(NULL, NULL) <= 0);
  CHECK(jlog_ctx_close(NULL) <= 0);
  CHECK(jlog_snprint_logid(text, sizeof text, NULL) < 0);

  claim("without a name, an id, a message or a place for the answer, calls fail");
  ctx = writer(path);
  REFUSED(ctx, jlog_ctx_write(ctx, NULL, 1));
  REFUSED(ctx, jlog_ctx_write_message(ctx, NULL, NULL));
  message = (jlog_message){.mess = NULL, .mess_len = 7};
  REFUSED(ctx, jlog_ctx_write_message(ctx, &message, NULL));
  REFUSED(ctx, jlog_ctx_add_subscriber(ctx, NULL, JLOG_BEGIN));
  REFUSED(ctx, jlog_ctx_add_subscriber(ctx, NULL, JLOG_END));
  REFUSED(ctx, jlog_ctx_add_subscriber_copy_checkpoint(ctx, NULL, "s"));
  REFUSED(ctx, jlog_ctx_add_subscriber_copy_checkpoint(ctx, "n", NULL));
  REFUSED(ctx, jlog_ctx_set_subscriber_checkpoint(ctx, NULL, &id));
  REFUSED(ctx, jlog_ctx_set_subscriber_checkpoint(ctx, "s", NULL));
  REFUSED(ctx, jlog_ctx_remove_subscriber(ctx, NULL));
  REFUSED(ctx, jlog_ctx_list_subscribers(ctx, NULL));
  REFUSED(ctx, jlog_get_checkpoint(ctx, NULL, &id));
  REFUSED(ctx, jlog_get_checkpoint(ctx, "s", NULL));
  REFUSED(ctx, jlog_ctx_first_log_id(ctx, NULL));
  REFUSED(ctx, jlog_idx_details(ctx, 0, NULL, &closed));
  REFUSED(ctx, jlog_idx_details(ctx, 0, &number, NULL));
  CHECK(jlog_ctx_list_subscribers_dispose(ctx, NULL) <= 0);
  EQUAL(1, jlog_pending_readers(ctx, 0, NULL));
  put_numbered(ctx, 6, 6);
  EQUAL(0, jlog_ctx_close(ctx));
  ctx = jlog_new(path);
  REFUSED(ctx, jlog_ctx_open_reader(ctx, NULL));
  EQUAL(0, jlog_ctx_close(ctx));

  ctx = reader(path, "s");
  REFUSED(ctx, jlog_ctx_read_interval(ctx, NULL, &other));
  REFUSED(ctx, jlog_ctx_read_interval(ctx, &id, NULL));
  EQUAL(4, jlog_ctx_read_interval(ctx, &id, &other));
  REFUSED(ctx, jlog_ctx_read_message(ctx, NULL, &message));
  REFUSED(ctx, jlog_ctx_read_message(ctx, &id, NULL));
  REFUSED(ctx, jlog_ctx_bulk_read_messages(ctx, NULL, 1, &message));
  REFUSED(ctx, jlog_ctx_bulk_read_messages(ctx, &id, 1, NULL));
  REFUSED(ctx, jlog_ctx_read_checkpoint(ctx, NULL));
  REFUSED(ctx, jlog_ctx_last_log_id(ctx, NULL));
  REFUSED(ctx, jlog_ctx_last_storage_log(ctx, NULL));
  REFUSED(ctx, jlog_ctx_advance_id(ctx, NULL, &id, &other));
  REFUSED(ctx, jlog_ctx_advance_id(ctx, &id, NULL, &other));
  REFUSED(ctx, jlog_ctx_advance_id(ctx, &id, &other, NULL));
  TEXT("[message 01][message 02][message 03][message 04][message 05][message 06]", drain(ctx));
  EQUAL(0, jlog_ctx_close(ctx));
  FILES("00000001=52 00000001.idx=16 cp.73=8 metastore=16 pre_commit=4", path);

  claim("without a file, file calls fail");
  void *base = NULL;
  size_t length = 0;
  struct iovec piece = {text, 1};
  CHECK(jlog_file_open(NULL, O_CREAT, 0640, 1) == NULL);
  EQUAL(0, jlog_file_close(NULL));
  EQUAL(0, jlog_file_lock(NULL));
  EQUAL(0, jlog_file_unlock(NULL));
  EQUAL(0, jlog_file_pread(NULL, text, 1, 0));
  EQUAL(0, jlog_file_pwrite(NULL, text, 1, 0));
  EQUAL(0, jlog_file_pwritev(NULL, &piece, 1, 0));
  EQUAL(0, jlog_file_pwritev_verify_return_value(NULL, &piece, 1, 0, 1));
  EQUAL(0, jlog_file_sync(NULL));
  EQUAL(0, jlog_file_map_read(NULL, &base, &length));
  EQUAL(0, jlog_file_map_rdwr(NULL, &base, &length));
  EQUAL(-1, jlog_file_size(NULL));
  EQUAL(0, jlog_file_truncate(NULL, 0));
}

static void values_out_of_range(void) {
  const char *path = at("range");
  uint32_t words[4] = {0};
  jlog_ctx *ctx;

  claim("a message longer than a record can say is refused, not cut");
  make_log(path, 4194304);
  ctx = writer(path);
  REFUSED(ctx, jlog_ctx_write(ctx, path, ((size_t)1 << 32) + 5));
  REFUSED(ctx, jlog_ctx_write(ctx, path, SIZE_MAX));
  EQUAL(0, file_size(in(path, "00000000")) > 0);

  claim("a segment size of nothing does not make segments for ever");
  (void)jlog_ctx_alter_journal_size(ctx, 0);
  alarm(60);
  OK(ctx, put(ctx, "one"));
  OK(ctx, put(ctx, "two"));
  alarm(0);
  CHECK(file_size(in(path, "00000008")) == -1);
  (void)jlog_ctx_alter_journal_size(ctx, ((size_t)1 << 32) + 100);
  OK(ctx, put(ctx, "three"));
  EQUAL(0, jlog_ctx_close(ctx));
  TEXT("[one][two][three]", drained(path, "s"));

  claim("a safety level that is none does not get into a log that is open");
  path = at("unsafe");
  ctx = jlog_new(path);
  EQUAL(0, jlog_ctx_alter_safety(ctx, (jlog_safety)9));
  OK(ctx, jlog_ctx_init(ctx));
  OK(ctx, jlog_ctx_add_subscriber(ctx, "s", JLOG_BEGIN));
  EQUAL(0, jlog_ctx_close(ctx));
  ctx = writer(path);
  OK(ctx, put(ctx, "one"));
  EQUAL(0, jlog_ctx_close(ctx));
  EQUAL(16, read_file(in(path, "metastore"), words, 16));
  CHECK(words[2] <= JLOG_SAFE);
  TEXT("[one]", drained(path, "s"));

  claim("a compression that is none makes no log, or one that can be read");
  path = at("provider");
  ctx = jlog_new(path);
  EQUAL(0, jlog_ctx_set_use_compression(ctx, 1));
  EQUAL(0, jlog_ctx_set_compression_provider(ctx, (jlog_compression_provider_choice)9));
  int made = jlog_ctx_init(ctx) == 0;
  CHECK(made || jlog_ctx_err(ctx) != JLOG_ERR_SUCCESS);
  if (made) OK(ctx, jlog_ctx_add_subscriber(ctx, "s", JLOG_BEGIN));
  EQUAL(0, jlog_ctx_close(ctx));
  if (made) {
    ctx = writer(path);
    OK(ctx, put(ctx, "one"));
    EQUAL(0, jlog_ctx_close(ctx));
    TEXT("[one]", drained(path, "s"));
  }
}

int main(int argc, char **argv) {
  begin(argc, argv);
  names_of_errors();
  making_and_opening();
  subscribers_that_are_not();
  reads_that_fail(JLOG_READ_METHOD_MMAP);
  reads_that_fail(JLOG_READ_METHOD_PREAD);
  contexts_of_another_kind();
  files_that_are_wrong();
  no_room();
  if (!reference()) {
    pointers_to_nothing();
    values_out_of_range();
  }

  claim("every error that can be brought about was");
  for (int code = 1; code <= JLOG_ERR_CLOSE_LOGID; code++) {
    int cannot = code == JLOG_ERR_LOCK || code == JLOG_ERR_IDX_SEEK || code == JLOG_ERR_FILE_SEEK ||
                 code == JLOG_ERR_IDX_WRITE || code == JLOG_ERR_IDX_READ || code == JLOG_ERR_CREATE_PRE_COMMIT;
    check_that(produced[code] != cannot, __FILE__, __LINE__, "%d %s", code, jlog_err_string(code));
  }
  return finish();
}
