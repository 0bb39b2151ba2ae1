/* Every function in its normal use: what it returns, and what lies in the directory afterwards. */
#include "check.h"

#define PLAIN 0x663A7318u
#define NULL_COMPRESSED 0x15106A00u
#define LZ4_COMPRESSED 0x15106A01u

static const jlog_id NOWHERE = {0xeeeeeeee, 0xeeeeeeee};

static int mode_of(const char *path) {
  struct stat status;
  return stat(path, &status) ? -1 : (int)(status.st_mode & 07777);
}

/* The metastore holds these four words. */
static void metastore_is(const char *log, uint32_t storage_log, uint32_t unit_limit, uint32_t safety, uint32_t magic,
                         int line) {
  uint32_t expected[4] = {storage_log, unit_limit, safety, magic}, found[5] = {0};
  size_t n = read_file(in(log, "metastore"), found, sizeof found);
  check_that(n == 16 && !memcmp(expected, found, 16), __FILE__, line,
             "metastore: expected %u %u %u %08x, found %u %u %u %08x (%zu bytes)", storage_log, unit_limit, safety,
             magic, found[0], found[1], found[2], found[3], n);
}
#define METASTORE(log, storage_log, unit_limit, safety, magic)                                                         \
  metastore_is((log), (storage_log), (unit_limit), (safety), (magic), __LINE__)

/* ---- making ---- */

static void making_a_log(void) {
  const char *path = at("made");
  jlog_ctx *ctx;

  claim("jlog_new and jlog_ctx_close touch no file");
  ctx = jlog_new(path);
  CHECK(ctx != NULL);
  EQUAL(0, jlog_ctx_err(ctx));
  EQUAL(0, jlog_ctx_errno(ctx));
  TEXT("JLOG_ERR_SUCCESS", jlog_ctx_err_string(ctx));
  EQUAL(0, jlog_raw_size(ctx));
  EQUAL(0, jlog_ctx_close(ctx));
  FILES("no directory", path);

  claim("a log that is made has a metastore and nothing else");
  ctx = jlog_new(path);
  OK(ctx, jlog_ctx_init(ctx));
  FILES("metastore=16", path);
  METASTORE(path, 0, 4194304, 1, PLAIN);
  EQUAL(0750, mode_of(path));
  EQUAL(0640, mode_of(in(path, "metastore")));
  EQUAL(16, jlog_raw_size(ctx));
  EQUAL(0, jlog_ctx_close(ctx));

  claim("what was set before is in the log that is made");
  path = at("made-otherwise");
  ctx = jlog_new(path);
  EQUAL(0, jlog_ctx_alter_mode(ctx, 0600));
  OK(ctx, jlog_ctx_alter_journal_size(ctx, 1000));
  OK(ctx, jlog_ctx_alter_safety(ctx, JLOG_SAFE));
  EQUAL(0, jlog_ctx_set_multi_process(ctx, 0));
  OK(ctx, jlog_ctx_init(ctx));
  FILES("metastore=16", path);
  METASTORE(path, 0, 1000, 2, PLAIN);
  EQUAL(0700, mode_of(path));
  EQUAL(0600, mode_of(in(path, "metastore")));
  EQUAL(0, jlog_ctx_close(ctx));

  claim("a file's mode is subject to umask, a directory's is not");
  path = at("made-for-all");
  umask(077);
  ctx = jlog_new(path);
  EQUAL(0, jlog_ctx_alter_mode(ctx, 0664));
  OK(ctx, jlog_ctx_init(ctx));
  EQUAL(0, jlog_ctx_close(ctx));
  umask(022);
  EQUAL(0775, mode_of(path));
  EQUAL(0600, mode_of(in(path, "metastore")));

  claim("compression is chosen before init: lz4 if nothing is said");
  ctx = jlog_new(at("lz4"));
  EQUAL(0, jlog_ctx_set_use_compression(ctx, 1));
  OK(ctx, jlog_ctx_init(ctx));
  EQUAL(0, jlog_ctx_close(ctx));
  METASTORE(at("lz4"), 0, 4194304, 1, LZ4_COMPRESSED);
  ctx = jlog_new(at("null"));
  EQUAL(0, jlog_ctx_set_use_compression(ctx, 1));
  EQUAL(0, jlog_ctx_set_compression_provider(ctx, JLOG_COMPRESSION_NULL));
  OK(ctx, jlog_ctx_init(ctx));
  EQUAL(0, jlog_ctx_close(ctx));
  METASTORE(at("null"), 0, 4194304, 1, NULL_COMPRESSED);
  ctx = jlog_new(at("uncompressed"));
  EQUAL(0, jlog_ctx_set_use_compression(ctx, 1));
  EQUAL(0, jlog_ctx_set_use_compression(ctx, 0));
  OK(ctx, jlog_ctx_init(ctx));
  EQUAL(0, jlog_ctx_close(ctx));
  METASTORE(at("uncompressed"), 0, 4194304, 1, PLAIN);
}

/* ---- subscribers ---- */

static void subscribers_come_and_go(void) {
  const char *path = at("subscribed");
  jlog_ctx *ctx = jlog_new(path);
  jlog_id id = NOWHERE, place = {0, 2};
  char name[130], **names;
  uint32_t cp[2] = {9, 9}, earliest = 99;

  claim("a subscriber is a file named after it in hex, with a segment and a marker");
  OK(ctx, jlog_ctx_init(ctx));
  OK(ctx, jlog_ctx_add_subscriber(ctx, "one", JLOG_BEGIN));
  FILES("cp.6f6e65=8 metastore=16", path);
  EQUAL(8, read_file(in(path, "cp.6f6e65"), cp, 8));
  EQUAL(0, cp[0]);
  EQUAL(0, cp[1]);
  EQUAL(0640, mode_of(in(path, "cp.6f6e65")));
  EQUAL(24, jlog_raw_size(ctx));
  OK(ctx, jlog_get_checkpoint(ctx, "one", &id));
  ID(0, 0, id);
  jlog_ctx_close(ctx);

  claim("a subscriber added at the end has all that is there behind it");
  ctx = writer(path);
  put_numbered(ctx, 1, 3);
  OK(ctx, jlog_ctx_add_subscriber(ctx, "end", JLOG_END));
  OK(ctx, jlog_get_checkpoint(ctx, "end", &id));
  ID(0, 3, id);
  put_numbered(ctx, 4, 4);
  jlog_ctx_close(ctx);
  FILES("00000000=104 00000000.idx=24 cp.656e64=8 cp.6f6e65=8 metastore=16 pre_commit=4", path);
  TEXT("[message 04]", drained(path, "end"));

  claim("a copy begins where the other one is, and moves one that is there already");
  ctx = jlog_new(path);
  OK(ctx, jlog_ctx_add_subscriber_copy_checkpoint(ctx, "copy", "end"));
  OK(ctx, jlog_get_checkpoint(ctx, "copy", &id));
  ID(0, 4, id);
  OK(ctx, jlog_ctx_add_subscriber_copy_checkpoint(ctx, "copy", "one"));
  OK(ctx, jlog_get_checkpoint(ctx, "copy", &id));
  ID(0, 0, id);

  claim("a checkpoint is set of a subscriber that is there, and of one that is not");
  OK(ctx, jlog_ctx_set_subscriber_checkpoint(ctx, "copy", &place));
  OK(ctx, jlog_ctx_set_subscriber_checkpoint(ctx, "fresh", &place));
  OK(ctx, jlog_get_checkpoint(ctx, "copy", &id));
  ID(0, 2, id);
  OK(ctx, jlog_get_checkpoint(ctx, "fresh", &id));
  ID(0, 2, id);
  TEXT("copy end fresh one", subscribers(ctx));
  TEXT("[message 03][message 04]", drained(path, "fresh"));

  claim("all subscribers are counted, and the earliest told of");
  EQUAL(4, jlog_pending_readers(ctx, 0, &earliest));
  EQUAL(0, earliest);
  EQUAL(4, __jlog_pending_readers(ctx, 0));
  EQUAL(4, __jlog_pending_readers(ctx, 7));

  claim("removing says whether there was one");
  EQUAL(1, jlog_ctx_remove_subscriber(ctx, "fresh"));
  EQUAL(0, jlog_ctx_remove_subscriber(ctx, "fresh"));
  EQUAL(JLOG_ERR_INVALID_SUBSCRIBER, jlog_ctx_err(ctx));
  EQUAL(1, jlog_ctx_remove_subscriber(ctx, "copy"));
  EQUAL(1, jlog_ctx_remove_subscriber(ctx, "end"));
  TEXT("one", subscribers(ctx));

  claim("any bytes make a name, also none, up to 126 of them");
  OK(ctx, jlog_ctx_add_subscriber(ctx, "", JLOG_BEGIN));
  OK(ctx, jlog_ctx_add_subscriber(ctx, "a/b \xc3\xa9\n", JLOG_BEGIN));
  CHECK(file_size(in(path, "cp.")) == 8);
  CHECK(file_size(in(path, "cp.612f6220c3a90a")) == 8);
  TEXT(" a/b \xc3\xa9\n one", subscribers(ctx));
  memset(name, 'n', 126);
  name[126] = '\0';
  OK(ctx, jlog_ctx_add_subscriber(ctx, name, JLOG_BEGIN));
  OK(ctx, jlog_get_checkpoint(ctx, name, &id));
  ID(0, 0, id);
  EQUAL(1, jlog_ctx_remove_subscriber(ctx, name));
  EQUAL(1, jlog_ctx_remove_subscriber(ctx, ""));
  EQUAL(1, jlog_ctx_remove_subscriber(ctx, "a/b \xc3\xa9\n"));

  claim("a log without subscribers lists none");
  EQUAL(1, jlog_ctx_remove_subscriber(ctx, "one"));
  EQUAL(0, jlog_ctx_list_subscribers(ctx, &names));
  CHECK(names[0] == NULL);
  OK(ctx, jlog_ctx_list_subscribers_dispose(ctx, names));
  EQUAL(0, jlog_pending_readers(ctx, 0, &earliest));
  EQUAL(0, earliest);
  FILES("00000000=104 00000000.idx=32 metastore=16 pre_commit=4", path);
  jlog_ctx_close(ctx);
}

/* ---- writing ---- */

static void writing_messages(void) {
  const char *path = at("written");
  struct timeval when = {1000000001, 999999}, before, after;
  jlog_message message;
  jlog_message_header header;
  unsigned char bytes[64];
  jlog_ctx *ctx;

  make_log(path, 4194304);

  claim("opening for writing makes pre_commit, the first message makes the segment");
  ctx = writer(path);
  FILES("cp.73=8 metastore=16 pre_commit=4", path);
  OK(ctx, jlog_ctx_write(ctx, "hello", 5));
  FILES("00000000=21 cp.73=8 metastore=16 pre_commit=4", path);
  EQUAL(0640, mode_of(in(path, "00000000")));
  EQUAL(49, jlog_raw_size(ctx));

  claim("a record is its magic, seconds, microseconds, length, and the bytes");
  memset(&message, 0xee, sizeof message);
  message.mess = (char[]){'a', '\0', 'b'};
  message.mess_len = 3;
  OK(ctx, jlog_ctx_write_message(ctx, &message, &when));
  EQUAL(40, read_file(in(path, "00000000"), bytes, sizeof bytes));
  memcpy(&header, bytes + 21, 16);
  EQUAL(PLAIN, header.reserved);
  EQUAL(1000000001, header.tv_sec);
  EQUAL(999999, header.tv_usec);
  EQUAL(3, header.mlen);
  CHECK(!memcmp(bytes + 37, "a\0b", 3));

  claim("without a time a message has the present one");
  gettimeofday(&before, NULL);
  message.mess_len = 0;
  OK(ctx, jlog_ctx_write_message(ctx, &message, NULL));
  OK(ctx, jlog_ctx_write(ctx, NULL, 0));
  gettimeofday(&after, NULL);
  EQUAL(72, read_file(in(path, "00000000"), bytes, sizeof bytes) + 8);
  memcpy(&header, bytes + 40, 16);
  EQUAL(0, header.mlen);
  CHECK(header.tv_sec >= before.tv_sec && header.tv_sec <= after.tv_sec && header.tv_usec < 1000000);

  claim("a flush without a buffer does nothing, and succeeds");
  OK(ctx, jlog_ctx_flush_pre_commit_buffer(ctx));
  FILES("00000000=72 cp.73=8 metastore=16 pre_commit=4", path);
  EQUAL(0, jlog_ctx_close(ctx));
  FILES("00000000=72 cp.73=8 metastore=16 pre_commit=4", path);

  claim("opening for writing and closing makes the segment");
  make_log(at("touched"), 1000);
  EQUAL(0, jlog_ctx_close(writer(at("touched"))));
  FILES("00000000=0 cp.73=8 metastore=16 pre_commit=4", at("touched"));

  claim("one writer without file locks writes the same");
  make_log(at("single"), 100);
  ctx = jlog_new(at("single"));
  EQUAL(0, jlog_ctx_set_multi_process(ctx, 0));
  OK(ctx, jlog_ctx_open_writer(ctx));
  put_numbered(ctx, 1, 9);
  jlog_ctx_close(ctx);
  FILES("00000000=104 00000001=104 00000002=26 cp.73=8 metastore=16 pre_commit=4", at("single"));
  ctx = jlog_new(at("single"));
  EQUAL(0, jlog_ctx_set_multi_process(ctx, 0));
  OK(ctx, jlog_ctx_open_reader(ctx, "s"));
  TEXT("[message 01][message 02][message 03][message 04][message 05][message 06][message 07][message 08][message 09]",
       drain(ctx));
  jlog_ctx_close(ctx);

  claim("two writers of one process append in turn");
  make_log(at("two"), 100);
  ctx = writer(at("two"));
  jlog_ctx *other = writer(at("two"));
  put_numbered(ctx, 1, 3);
  put_numbered(other, 4, 5);
  put_numbered(ctx, 6, 7);
  jlog_ctx_close(ctx);
  put_numbered(other, 8, 9);
  jlog_ctx_close(other);
  TEXT("[message 01][message 02][message 03][message 04][message 05][message 06][message 07][message 08][message 09]",
       drained(at("two"), "s"));
}

/* ---- reading ---- */

static void reading_by(jlog_read_method_type method, int provider) {
  const char *path = at("read-%d-%d", (int)method, provider);
  jlog_ctx *ctx = jlog_new(path), *out;
  struct timeval when = {1234567890, 5};
  jlog_id first = NOWHERE, last = NOWHERE, id;
  jlog_message message, messages[4];
  char *large = malloc(100000), text[32];
  int i, n;

  for (i = 0; i < 100000; i++) large[i] = (char)('a' + i % 23);
  if (provider >= 0) {
    jlog_ctx_set_use_compression(ctx, 1);
    jlog_ctx_set_compression_provider(ctx, (jlog_compression_provider_choice)provider);
  }
  OK(ctx, jlog_ctx_init(ctx));
  OK(ctx, jlog_ctx_add_subscriber(ctx, "s", JLOG_BEGIN));
  jlog_ctx_close(ctx);

  out = writer(path);
  ctx = jlog_new(path);
  OK(ctx, jlog_ctx_alter_read_method(ctx, method));
  OK(ctx, jlog_ctx_open_reader(ctx, "s"));

  claim("opening as a subscriber adds nothing to the directory, and finds nothing before anything was written");
  FILES("cp.73=8 metastore=16 pre_commit=4", path);
  EQUAL(0, jlog_ctx_read_interval(ctx, &first, &last));
  ID(0, 0, first);
  ID(0, 0, last);

  claim("an interval is the messages behind the checkpoint");
  for (i = 0; i < 3; i++) {
    message.mess = text;
    message.mess_len = (uint32_t)sprintf(text, "message %d", i);
    when.tv_usec = i;
    OK(out, jlog_ctx_write_message(out, &message, &when));
  }
  EQUAL(3, jlog_ctx_read_interval(ctx, &first, &last));
  ID(0, 1, first);
  ID(0, 3, last);
  EQUAL(24, file_size(in(path, "00000000.idx")));

  claim("a message is read with its header, any number of times, in any order");
  for (i = 5; i >= 0; i--) {
    jlog_id some = {0, (uint32_t)(i % 3 + 1)};
    memset(&message, 0, sizeof message);
    OK(ctx, jlog_ctx_read_message(ctx, &some, &message));
    sprintf(text, "message %d", i % 3);
    EQUAL(9, message.mess_len);
    CHECK(message.mess && !memcmp(message.mess, text, 9));
    CHECK(message.header == &message.aligned_header);
    EQUAL(9, message.header->mlen);
    EQUAL(1234567890, message.header->tv_sec);
    EQUAL(i % 3, message.header->tv_usec);
    EQUAL(provider < 0 ? PLAIN : NULL_COMPRESSED + (unsigned)provider, message.header->reserved);
    if (provider == JLOG_COMPRESSION_NULL) EQUAL(9, message.header->compressed_len);
  }

  claim("a bulk read lends all its messages at once, and returns 0");
  memset(messages, 0, sizeof messages);
  OK(ctx, jlog_ctx_bulk_read_messages(ctx, &first, 3, messages));
  for (i = 0; i < 3; i++) {
    sprintf(text, "message %d", i);
    EQUAL(9, messages[i].mess_len);
    CHECK(messages[i].mess && !memcmp(messages[i].mess, text, 9));
    EQUAL(1234567890, messages[i].header->tv_sec);
    EQUAL(i, messages[i].header->tv_usec);
  }
  id = (jlog_id){0, 3};
  memset(messages, 0, sizeof messages);
  OK(ctx, jlog_ctx_bulk_read_messages(ctx, &id, 1, messages));
  CHECK(messages[0].mess_len == 9 && !memcmp(messages[0].mess, "message 2", 9));
  CHECK(messages[1].mess == NULL);
  OK(ctx, jlog_ctx_bulk_read_messages(ctx, &id, 0, messages));

  claim("a checkpoint moves what the next interval is, in the middle of one as well");
  id = (jlog_id){0, 2};
  OK(ctx, jlog_ctx_read_checkpoint(ctx, &id));
  OK(ctx, jlog_get_checkpoint(ctx, NULL, &id));
  ID(0, 2, id);
  EQUAL(1, jlog_ctx_read_interval(ctx, &first, &last));
  ID(0, 3, first);
  ID(0, 3, last);
  OK(ctx, jlog_ctx_read_checkpoint(ctx, &last));
  EQUAL(0, jlog_ctx_read_interval(ctx, &first, &last));
  ID(0, 3, first);
  ID(0, 3, last);
  id = (jlog_id){0, 1};
  OK(ctx, jlog_ctx_read_checkpoint(ctx, &id));
  EQUAL(2, jlog_ctx_read_interval(ctx, &first, &last));
  ID(0, 2, first);
  OK(ctx, jlog_ctx_read_checkpoint(ctx, &last));

  claim("what is written while a reader is open is in its next interval");
  OK(out, jlog_ctx_write(out, large, 100000));
  OK(out, put(out, "behind it"));
  n = jlog_ctx_read_interval(ctx, &first, &last);
  EQUAL(2, n);
  ID(0, 4, first);
  OK(ctx, jlog_ctx_read_message(ctx, &first, &message));
  EQUAL(100000, message.mess_len);
  CHECK(message.mess && !memcmp(message.mess, large, 100000));
  JLOG_ID_ADVANCE(&first);
  OK(ctx, jlog_ctx_read_message(ctx, &first, &message));
  CHECK(message.mess_len == 9 && !memcmp(message.mess, "behind it", 9));
  memset(messages, 0, sizeof messages);
  first = (jlog_id){0, 3};
  OK(ctx, jlog_ctx_bulk_read_messages(ctx, &first, 3, messages));
  CHECK(messages[0].mess_len == 9 && !memcmp(messages[0].mess, "message 2", 9));
  CHECK(messages[1].mess_len == 100000 && !memcmp(messages[1].mess, large, 100000));
  CHECK(messages[2].mess_len == 9 && !memcmp(messages[2].mess, "behind it", 9));
  OK(ctx, jlog_ctx_read_checkpoint(ctx, &last));

  claim("the first and the last message are where they are");
  OK(ctx, jlog_ctx_first_log_id(ctx, &id));
  ID(0, 0, id);
  OK(ctx, jlog_ctx_last_log_id(ctx, &id));
  ID(0, 5, id);

  claim("a checkpoint is there for the next reader of that name");
  jlog_ctx_close(ctx);
  ctx = reader(path, "s");
  OK(ctx, jlog_get_checkpoint(ctx, "s", &id));
  ID(0, 5, id);
  EQUAL(0, jlog_ctx_read_interval(ctx, &first, &last));
  jlog_ctx_close(ctx);

  /* With the null provider libjlog makes 16384 zero bytes of it. */
  if (provider != JLOG_COMPRESSION_NULL || !reference()) {
    claim("a message without bytes is one");
    OK(out, jlog_ctx_write(out, "", 0));
    ctx = reader(path, "s");
    EQUAL(1, jlog_ctx_read_interval(ctx, &first, &last));
    OK(ctx, jlog_ctx_read_message(ctx, &first, &message));
    EQUAL(0, message.mess_len);
    jlog_ctx_close(ctx);
  }
  jlog_ctx_close(out);
  free(large);
}

static void reading_messages(void) {
  const char *path = at("lent");
  jlog_message messages[3];
  jlog_id first, last;
  jlog_ctx *ctx;
  int i;

  reading_by(JLOG_READ_METHOD_MMAP, -1);
  reading_by(JLOG_READ_METHOD_PREAD, -1);
  reading_by(JLOG_READ_METHOD_MMAP, JLOG_COMPRESSION_LZ4);
  reading_by(JLOG_READ_METHOD_PREAD, JLOG_COMPRESSION_LZ4);
  reading_by(JLOG_READ_METHOD_MMAP, JLOG_COMPRESSION_NULL);
  reading_by(JLOG_READ_METHOD_PREAD, JLOG_COMPRESSION_NULL);

  /* Programs collect an interval's messages before they look at them. */
  claim("by mmap, all messages of an interval stay lent until the next one");
  make_log(path, 4194304);
  ctx = writer(path);
  put_numbered(ctx, 1, 3);
  jlog_ctx_close(ctx);
  ctx = reader(path, "s");
  EQUAL(3, jlog_ctx_read_interval(ctx, &first, &last));
  for (i = 0; i < 3; i++, JLOG_ID_ADVANCE(&first)) OK(ctx, jlog_ctx_read_message(ctx, &first, &messages[i]));
  OK(ctx, jlog_ctx_read_checkpoint(ctx, &last));
  CHECK(messages[0].mess_len == 10 && !memcmp(messages[0].mess, "message 01", 10));
  CHECK(messages[1].mess_len == 10 && !memcmp(messages[1].mess, "message 02", 10));
  CHECK(messages[2].mess_len == 10 && !memcmp(messages[2].mess, "message 03", 10));
  jlog_ctx_close(ctx);

  claim("the read method is chosen before the first message is read");
  ctx = reader(path, "s");
  OK(ctx, jlog_ctx_alter_read_method(ctx, JLOG_READ_METHOD_PREAD));
  OK(ctx, jlog_ctx_alter_read_method(ctx, JLOG_READ_METHOD_MMAP));
  first = (jlog_id){0, 2};
  OK(ctx, jlog_ctx_read_message(ctx, &first, &messages[0]));
  EQUAL(-1, jlog_ctx_alter_read_method(ctx, JLOG_READ_METHOD_PREAD));
  jlog_ctx_close(ctx);
}

/* ---- from segment to segment ---- */

static void rotating_and_pruning(void) {
  const char *path = at("rotated");
  jlog_id first, last, id, from, to;
  jlog_ctx *ctx, *behind;
  uint32_t number = 99, earliest = 99, marker = 99;
  int closed = 99, n, left;

  make_log(path, 100);
  ctx = jlog_new(path);
  OK(ctx, jlog_ctx_add_subscriber(ctx, "t", JLOG_BEGIN));
  jlog_ctx_close(ctx);

  claim("the message that reaches the limit is the last of its segment, and the next one is made at once");
  ctx = writer(path);
  put_numbered(ctx, 1, 3);
  FILES("00000000=78 cp.73=8 cp.74=8 metastore=16 pre_commit=4", path);
  put_numbered(ctx, 4, 4);
  FILES("00000000=104 00000001=0 cp.73=8 cp.74=8 metastore=16 pre_commit=4", path);
  put_numbered(ctx, 5, 10);
  FILES("00000000=104 00000001=104 00000002=52 cp.73=8 cp.74=8 metastore=16 pre_commit=4", path);
  METASTORE(path, 2, 100, 1, PLAIN);

  claim("a message longer than a segment may be goes where the others go, and finishes it");
  OK(ctx, put(ctx, "01234567890123456789012345678901234567890123456789"
                   "01234567890123456789012345678901234567890123456789"));
  FILES("00000000=104 00000001=104 00000002=168 00000003=0 cp.73=8 cp.74=8 metastore=16 pre_commit=4", path);
  put_numbered(ctx, 11, 11);
  jlog_ctx_close(ctx);

  claim("an interval ends with its segment; the segment is indexed with a closing entry");
  ctx = reader(path, "s");
  OK(ctx, jlog_ctx_last_storage_log(ctx, &number));
  EQUAL(3, number);
  OK(ctx, jlog_ctx_last_log_id(ctx, &id));
  ID(3, 1, id);
  OK(ctx, jlog_ctx_first_log_id(ctx, &id));
  ID(0, 0, id);
  EQUAL(4, jlog_ctx_read_interval(ctx, &first, &last));
  ID(0, 1, first);
  ID(0, 4, last);
  FILES("00000000=104 00000000.idx=40 00000001=104 00000002=168 00000003=26 00000003.idx=8 cp.73=8 cp.74=8 "
        "metastore=16 pre_commit=4",
        path);
  OK(ctx, jlog_idx_details(ctx, 0, &marker, &closed));
  EQUAL(4, marker);
  EQUAL(1, closed);
  OK(ctx, jlog_idx_details(ctx, 3, &marker, &closed));
  EQUAL(1, marker);
  EQUAL(0, closed);

  claim("advance_id goes through one segment and on into the next, without a checkpoint");
  id = from = first;
  to = last;
  for (n = 1; n < 12; n++) {
    OK(ctx, jlog_ctx_advance_id(ctx, &id, &from, &to));
    if (id.log == from.log && id.marker == from.marker) break;
    id = from;
  }
  EQUAL(12, n);
  ID(3, 1, id);
  ID(3, 1, to);
  OK(ctx, jlog_ctx_advance_id(ctx, &id, &from, &to));
  ID(3, 1, from);
  ID(3, 1, to);

  claim("a segment stays while anybody is in it");
  OK(ctx, jlog_get_checkpoint(ctx, "s", &id));
  ID(0, 0, id);
  OK(ctx, jlog_ctx_read_checkpoint(ctx, &last));
  EQUAL(4, jlog_ctx_read_interval(ctx, &first, &last));
  ID(1, 1, first);
  ID(1, 4, last);
  OK(ctx, jlog_get_checkpoint(ctx, "s", &id));
  ID(1, 0, id);
  CHECK(file_size(in(path, "00000000")) == 104);
  EQUAL(1, jlog_pending_readers(ctx, 0, &earliest));
  EQUAL(0, earliest);
  EQUAL(2, __jlog_pending_readers(ctx, 1));
  OK(ctx, jlog_ctx_read_checkpoint(ctx, &last));

  claim("the checkpoint of the last one that is in it deletes it, with its index");
  behind = reader(path, "t");
  EQUAL(4, jlog_ctx_read_interval(behind, &first, &last));
  OK(behind, jlog_ctx_read_checkpoint(behind, &last));
  CHECK(file_size(in(path, "00000000")) == 104);
  EQUAL(4, jlog_ctx_read_interval(behind, &first, &last));
  ID(1, 1, first);
  FILES("00000001=104 00000001.idx=40 00000002=168 00000002.idx=32 00000003=26 00000003.idx=8 cp.73=8 cp.74=8 "
        "metastore=16 pre_commit=4",
        path);
  EQUAL(-1, file_size(in(path, "00000000")));
  EQUAL(-1, file_size(in(path, "00000000.idx")));
  EQUAL(104, file_size(in(path, "00000001")));
  OK(behind, jlog_ctx_first_log_id(behind, &id));
  ID(1, 0, id);
  EQUAL(0, jlog_pending_readers(ctx, 0, &earliest));
  EQUAL(1, earliest);

  claim("a checkpoint moved over several segments deletes all that nobody is in");
  OK(behind, jlog_ctx_read_checkpoint(behind, &last));
  id = (jlog_id){3, 1};
  OK(behind, jlog_ctx_set_subscriber_checkpoint(behind, "t", &id));
  EQUAL(104, file_size(in(path, "00000001")));
  OK(ctx, jlog_ctx_set_subscriber_checkpoint(ctx, "s", &id));
  FILES("00000003=26 00000003.idx=8 cp.73=8 cp.74=8 metastore=16 pre_commit=4", path);
  jlog_ctx_close(behind);
  jlog_ctx_close(ctx);

  claim("a new subscriber begins with the oldest segment there is");
  ctx = jlog_new(path);
  OK(ctx, jlog_ctx_add_subscriber(ctx, "late", JLOG_BEGIN));
  OK(ctx, jlog_get_checkpoint(ctx, "late", &id));
  ID(3, 0, id);
  jlog_ctx_close(ctx);
  TEXT("[message 11]", drained(path, "late"));

  claim("everything is delivered once, in order, and its segments go");
  path = at("drained");
  make_log(path, 60);
  ctx = writer(path);
  put_numbered(ctx, 1, 14);
  jlog_ctx_close(ctx);
  left = (int)strlen(drained(path, "s"));
  EQUAL(14 * 12, left);
  TEXT("", drained(path, "s"));
  FILES("00000004=52 00000004.idx=16 cp.73=8 metastore=16 pre_commit=4", path);
}

static void cleaning(void) {
  const char *path = at("cleaned");
  jlog_ctx *ctx;
  jlog_id id = {2, 1};

  claim("cleaning deletes what is older than every checkpoint, and says how much");
  make_log(path, 100);
  ctx = writer(path);
  put_numbered(ctx, 1, 14);
  jlog_ctx_close(ctx);
  write_file(in(path, "cp.73"), &id, 8);
  CHECK(file_size(in(path, "00000000")) == 104);
  EQUAL(2, jlog_clean(path));
  FILES("00000002=104 00000003=52 cp.73=8 metastore=16 pre_commit=4", path);
  EQUAL(0, jlog_clean(path));

  claim("cleaning deletes nothing where nobody has subscribed, nor what somebody is in");
  ctx = jlog_new(path);
  EQUAL(1, jlog_ctx_remove_subscriber(ctx, "s"));
  EQUAL(0, jlog_clean(path));
  FILES("00000002=104 00000003=52 metastore=16 pre_commit=4", path);
  OK(ctx, jlog_ctx_add_subscriber(ctx, "s", JLOG_BEGIN));
  EQUAL(0, jlog_clean(path));
  FILES("00000002=104 00000003=52 cp.73=8 metastore=16 pre_commit=4", path);
  jlog_ctx_close(ctx);

  claim("cleaning what is no log fails");
  EQUAL(-1, jlog_clean(at("nothing there")));
}

/* ---- the pre_commit buffer ---- */

static void buffering(void) {
  const char *path = at("buffered");
  jlog_ctx *ctx, *in_turn;
  jlog_id first, last;
  pid_t child;
  int status;

  claim("a buffer's file is as large as asked for, and four bytes");
  make_log(path, 4194304);
  ctx = jlog_new(path);
  EQUAL(0, jlog_ctx_set_pre_commit_buffer_size(ctx, 100));
  OK(ctx, jlog_ctx_open_writer(ctx));
  EQUAL(104, file_size(in(path, "pre_commit")));

  claim("what is buffered is not seen, what is flushed is");
  put_numbered(ctx, 1, 2);
  in_turn = reader(path, "s");
  EQUAL(0, jlog_ctx_read_interval(in_turn, &first, &last));
  EQUAL(0, file_size(in(path, "00000000")));
  OK(ctx, jlog_ctx_flush_pre_commit_buffer(ctx));
  EQUAL(52, file_size(in(path, "00000000")));
  EQUAL(2, jlog_ctx_read_interval(in_turn, &first, &last));
  OK(ctx, jlog_ctx_flush_pre_commit_buffer(ctx));
  EQUAL(52, file_size(in(path, "00000000")));

  claim("a full buffer goes to the segment, and the message that did not fit is buffered");
  put_numbered(ctx, 3, 5);
  EQUAL(52, file_size(in(path, "00000000")));
  put_numbered(ctx, 6, 6);
  EQUAL(52 + 78, file_size(in(path, "00000000")));
  EQUAL(5, jlog_ctx_read_interval(in_turn, &first, &last));

  claim("closing flushes");
  EQUAL(0, jlog_ctx_close(ctx));
  EQUAL(156, file_size(in(path, "00000000")));
  FILES("00000000=156 00000000.idx=40 cp.73=8 metastore=16 pre_commit=104", path);
  TEXT("[message 01][message 02][message 03][message 04][message 05][message 06]", drain(in_turn));
  jlog_ctx_close(in_turn);

  claim("a log keeps its buffer until another size is asked for");
  ctx = writer(path);
  put_numbered(ctx, 7, 8);
  EQUAL(156, file_size(in(path, "00000000")));
  jlog_ctx_close(ctx);
  EQUAL(208, file_size(in(path, "00000000")));
  EQUAL(104, file_size(in(path, "pre_commit")));
  ctx = jlog_new(path);
  EQUAL(0, jlog_ctx_set_pre_commit_buffer_size(ctx, 0));
  OK(ctx, jlog_ctx_open_writer(ctx));
  EQUAL(4, file_size(in(path, "pre_commit")));
  put_numbered(ctx, 9, 9);
  EQUAL(234, file_size(in(path, "00000000")));
  jlog_ctx_close(ctx);
  TEXT("[message 07][message 08][message 09]", drained(path, "s"));

  claim("the death of the process leaves what was buffered to the next writer");
  path = at("buffered-and-killed");
  make_log(path, 4194304);
  fflush(stdout);
  child = fork();
  if (child == 0) {
    ctx = jlog_new(path);
    jlog_ctx_set_pre_commit_buffer_size(ctx, 1000);
    if (jlog_ctx_open_writer(ctx) || put(ctx, "one") || put(ctx, "two")) _exit(1);
    kill(getpid(), SIGKILL);
  }
  waitpid(child, &status, 0);
  CHECK(WIFSIGNALED(status));
  TEXT("", drained(path, "s"));
  ctx = writer(path);
  OK(ctx, put(ctx, "three"));
  jlog_ctx_close(ctx);
  TEXT("[one][two][three]", drained(path, "s"));
  EQUAL(1004, file_size(in(path, "pre_commit")));

  claim("a segment is finished by what a flush brings");
  path = at("buffered-and-rotated");
  make_log(path, 100);
  ctx = jlog_new(path);
  EQUAL(0, jlog_ctx_set_pre_commit_buffer_size(ctx, 1000));
  OK(ctx, jlog_ctx_open_writer(ctx));
  put_numbered(ctx, 1, 5);
  OK(ctx, jlog_ctx_flush_pre_commit_buffer(ctx));
  FILES("00000000=130 00000001=0 cp.73=8 metastore=16 pre_commit=1004", path);
  put_numbered(ctx, 6, 7);
  jlog_ctx_close(ctx);
  FILES("00000000=130 00000001=52 cp.73=8 metastore=16 pre_commit=1004", path);
  TEXT("[message 01][message 02][message 03][message 04][message 05][message 06][message 07]", drained(path, "s"));

  /* libjlog writes it over the buffered ones. */
  if (!reference()) {
    claim("a message longer than the buffer goes behind what is buffered");
    path = at("buffered-and-too-long");
    make_log(path, 4194304);
    ctx = jlog_new(path);
    EQUAL(0, jlog_ctx_set_pre_commit_buffer_size(ctx, 64));
    OK(ctx, jlog_ctx_open_writer(ctx));
    OK(ctx, put(ctx, "one"));
    OK(ctx, put(ctx, "a message that is as long as the whole buffer, header not counted"));
    OK(ctx, put(ctx, "three"));
    jlog_ctx_close(ctx);
    TEXT("[one][a message that is as long as the whole buffer, header not counted][three]", drained(path, "s"));
  }
}

/* Two writers on one buffer write over each other in libjlog. */
static void beside_a_buffer(void) {
  const char *path = at("beside-a-buffer");
  jlog_ctx *gathering, *direct;
  int status;
  pid_t child;

  claim("while one context gathers, others write directly, and nobody waits for anybody");
  make_log(path, 100);
  gathering = jlog_new(path);
  EQUAL(0, jlog_ctx_set_pre_commit_buffer_size(gathering, 1000));
  OK(gathering, jlog_ctx_open_writer(gathering));
  put_numbered(gathering, 4, 5);
  fflush(stdout);
  child = fork();
  if (child == 0) {
    check_failures = 0;
    alarm(60);
    direct = writer(path);
    put_numbered(direct, 1, 1);
    EQUAL(0, jlog_ctx_close(direct));
    /* What it gathers is its parent's. */
    EQUAL(0, jlog_ctx_close(gathering));
    _exit(check_failures > 0);
  }
  waitpid(child, &status, 0);
  EQUAL(0, status);
  alarm(60);
  direct = writer(path);
  put_numbered(direct, 2, 2);
  EQUAL(0, jlog_clean(path));
  put_numbered(direct, 3, 3);
  OK(gathering, jlog_ctx_flush_pre_commit_buffer(gathering));
  put_numbered(direct, 6, 9);
  put_numbered(gathering, 10, 11);
  EQUAL(0, jlog_ctx_close(direct));
  EQUAL(0, jlog_ctx_close(gathering));
  alarm(0);
  TEXT("[message 01][message 02][message 03][message 04][message 05][message 06][message 07][message 08][message 09]"
       "[message 10][message 11]",
       drained(path, "s"));
}

/* ---- settings of an open log ---- */

static void altering(void) {
  const char *path = at("altered");
  jlog_ctx *ctx, *other;

  claim("an open writer changes the segment size and the safety level for good");
  make_log(path, 1000);
  ctx = writer(path);
  put_numbered(ctx, 1, 3);
  OK(ctx, jlog_ctx_alter_journal_size(ctx, 104));
  METASTORE(path, 0, 104, 1, PLAIN);
  put_numbered(ctx, 4, 5);
  FILES("00000000=104 00000001=26 cp.73=8 metastore=16 pre_commit=4", path);
  OK(ctx, jlog_ctx_alter_safety(ctx, JLOG_SAFE));
  METASTORE(path, 1, 104, 2, PLAIN);
  put_numbered(ctx, 6, 6);
  OK(ctx, jlog_ctx_alter_safety(ctx, JLOG_UNSAFE));
  METASTORE(path, 1, 104, 0, PLAIN);
  put_numbered(ctx, 7, 7);

  claim("also if another one has changed it meanwhile");
  other = writer(path);
  OK(other, jlog_ctx_alter_safety(other, JLOG_SAFE));
  METASTORE(path, 1, 104, 2, PLAIN);
  OK(ctx, jlog_ctx_alter_safety(ctx, JLOG_UNSAFE));
  METASTORE(path, 1, 104, 0, PLAIN);
  jlog_ctx_close(other);

  claim("a mode is for files made later");
  EQUAL(0, jlog_ctx_alter_mode(ctx, 0600));
  put_numbered(ctx, 8, 9);
  EQUAL(0640, mode_of(in(path, "00000001")));
  EQUAL(0600, mode_of(in(path, "00000002")));
  jlog_ctx_close(ctx);
  METASTORE(path, 2, 104, 0, PLAIN);

  claim("compression is not changed by what is set later");
  ctx = jlog_new(path);
  EQUAL(0, jlog_ctx_set_use_compression(ctx, 1));
  OK(ctx, jlog_ctx_open_writer(ctx));
  EQUAL(0, jlog_ctx_set_use_compression(ctx, 1));
  put_numbered(ctx, 10, 10);
  jlog_ctx_close(ctx);
  METASTORE(path, 2, 104, 0, PLAIN);
  TEXT("[message 01][message 02][message 03][message 04][message 05][message 06][message 07][message 08][message 09]"
       "[message 10]",
       drained(path, "s"));

  claim("a reader changes nothing of the log");
  ctx = reader(path, "s");
  EQUAL(-1, jlog_ctx_alter_journal_size(ctx, 5000));
  EQUAL(0, jlog_ctx_alter_journal_size(ctx, 104));
  EQUAL(-1, jlog_ctx_alter_safety(ctx, JLOG_SAFE));
  EQUAL(0, jlog_ctx_alter_safety(ctx, JLOG_UNSAFE));
  METASTORE(path, 2, 104, 0, PLAIN);
  jlog_ctx_close(ctx);
}

/* ---- inspecting, repairing ---- */

static void inspecting_and_repairing(void) {
  const char *path = at("inspected"), *said = at("said");
  jlog_ctx *ctx;
  const char *text;
  uint32_t marker = 99;
  int closed = 99, n;

  claim("a sound segment is inspected in silence, or verbosely with three lines for each message");
  make_log(path, 4194304);
  ctx = writer(path);
  put_numbered(ctx, 1, 6);
  jlog_ctx_close(ctx);
  ctx = jlog_new(path);
  catch_stderr(said);
  n = jlog_inspect_datafile(ctx, 0, 0);
  TEXT("", caught_stderr(said));
  EQUAL(0, n);
  catch_stderr(said);
  n = jlog_inspect_datafile(ctx, 0, 1);
  text = caught_stderr(said);
  EQUAL(0, n);
  CHECK(strstr(text, "Message 1 at [0] of (16+10)") == text);
  CHECK(strstr(text, "Message 6 at [130] of (16+10)") != NULL);
  CHECK(strstr(text, "mlen: 10\n") != NULL);
  for (n = 0; *text; text++) n += *text == '\n';
  EQUAL(18, n);

  claim("inspecting and repairing a sound segment changes nothing");
  EQUAL(0, jlog_repair_datafile(ctx, 0));
  FILES("00000000=156 cp.73=8 metastore=16 pre_commit=4", path);

  claim("the details of an index that is not there make it, empty");
  OK(ctx, jlog_idx_details(ctx, 0, &marker, &closed));
  EQUAL(0, marker);
  EQUAL(0, closed);
  FILES("00000000=156 00000000.idx=0 cp.73=8 metastore=16 pre_commit=4", path);

  claim("a segment whose bytes are no messages is told of, and repaired");
  overwrite(in(path, "00000000"), 78, "garbage", 7);
  catch_stderr(said);
  n = jlog_inspect_datafile(ctx, 0, 0);
  text = caught_stderr(said);
  EQUAL(1, n);
  CHECK(strstr(text, "Message 4 at [78] has invalid reserved value") != NULL);
  EQUAL(1, jlog_repair_datafile(ctx, 0));
  EQUAL(0, jlog_inspect_datafile(ctx, 0, 0));
  EQUAL(0, jlog_repair_datafile(ctx, 0));
  jlog_ctx_close(ctx);
  text = drained(path, "s");
  CHECK(strstr(text, "[message 01][message 02]") == text && strstr(text, "[message 05][message 06]") != NULL);
  /* libjlog cuts out the sound message before the damage as well. */
  if (!reference()) TEXT("[message 01][message 02][message 03][message 05][message 06]", text);

  claim("a torn end is told of, and cut off");
  path = at("torn");
  make_log(path, 4194304);
  ctx = writer(path);
  put_numbered(ctx, 1, 3);
  jlog_ctx_close(ctx);
  EQUAL(0, truncate(in(path, "00000000"), 70));
  ctx = jlog_new(path);
  catch_stderr(said);
  n = jlog_inspect_datafile(ctx, 0, 0);
  text = caught_stderr(said);
  EQUAL(1, n);
  CHECK(strstr(text, "Message 3 at [52] of (16+10) OFF THE END!") != NULL);
  EQUAL(1, jlog_repair_datafile(ctx, 0));
  EQUAL(52, file_size(in(path, "00000000")));
  jlog_ctx_close(ctx);
  TEXT("[message 01][message 02]", drained(path, "s"));
  EQUAL(0, truncate(in(path, "00000000"), 60));
  ctx = jlog_new(path);
  catch_stderr(said);
  n = jlog_inspect_datafile(ctx, 0, 0);
  text = caught_stderr(said);
  EQUAL(1, n);
  CHECK(strstr(text, "8 bytes of junk at the end") != NULL);
  jlog_ctx_close(ctx);

  claim("a segment that is not there, or is empty, can be neither inspected nor repaired");
  make_log(at("empty"), 1000);
  EQUAL(0, jlog_ctx_close(writer(at("empty"))));
  ctx = jlog_new(at("empty"));
  FAILS(ctx, JLOG_ERR_FILE_OPEN, jlog_inspect_datafile(ctx, 7, 0));
  FAILS(ctx, JLOG_ERR_FILE_OPEN, jlog_repair_datafile(ctx, 7));
  FAILS(ctx, JLOG_ERR_FILE_READ, jlog_inspect_datafile(ctx, 0, 0));
  FAILS(ctx, JLOG_ERR_FILE_READ, jlog_repair_datafile(ctx, 0));
  FILES("00000000=0 cp.73=8 metastore=16 pre_commit=4", at("empty"));
  jlog_ctx_close(ctx);

  claim("a log with one subscriber that is all right has nothing to repair");
  path = at("repaired");
  make_log(path, 100);
  ctx = writer(path);
  put_numbered(ctx, 1, 9);
  jlog_ctx_close(ctx);
  ctx = jlog_new(path);
  EQUAL(0, jlog_ctx_repair(ctx, 0));
  EQUAL(0, jlog_ctx_err(ctx));
  EQUAL(104, file_size(in(path, "00000000")));
  EQUAL(104, file_size(in(path, "00000001")));
  EQUAL(26, file_size(in(path, "00000002")));
  METASTORE(path, 2, 100, 1, PLAIN);
  jlog_ctx_close(ctx);

  claim("a lost metastore is made again, and the log goes on where it was");
  write_file(in(path, "metastore"), "Gloria!", 7);
  ctx = jlog_new(path);
  FAILS(ctx, JLOG_ERR_META_OPEN, jlog_ctx_open_writer(ctx));
  jlog_ctx_close(ctx);
  write_file(in(path, "metastore"), "Gloria!", 7);
  ctx = jlog_new(path);
  jlog_ctx_repair(ctx, 0);
  METASTORE(path, 2, 4194304, 1, PLAIN);
  jlog_ctx_close(ctx);
  ctx = writer(path);
  put_numbered(ctx, 10, 10);
  jlog_ctx_close(ctx);
  EQUAL(52, file_size(in(path, "00000002")));
  TEXT("[message 01][message 02][message 03][message 04][message 05][message 06][message 07][message 08][message 09]"
       "[message 10]",
       drained(path, "s"));

  claim("a checkpoint that points beyond a segment's end is put to its last message");
  ctx = jlog_new(path);
  jlog_id id = {2, 77};
  OK(ctx, jlog_ctx_set_subscriber_checkpoint(ctx, "s", &id));
  EQUAL(1, jlog_ctx_repair(ctx, 0));
  EQUAL(JLOG_ERR_CHECKPOINT, jlog_ctx_err(ctx));
  OK(ctx, jlog_get_checkpoint(ctx, "s", &id));
  ID(2, 2, id);

  claim("an aggressive repair mends damaged segments");
  id = (jlog_id){2, 0};
  OK(ctx, jlog_ctx_set_subscriber_checkpoint(ctx, "s", &id));
  overwrite(in(path, "00000002"), 26, "garbage", 7);
  catch_stderr(said);
  jlog_ctx_repair(ctx, 1);
  caught_stderr(said);
  n = jlog_inspect_datafile(ctx, 2, 0);
  CHECK(n != 1);
  jlog_ctx_close(ctx);
  if (!reference()) TEXT("[message 09]", drained(path, "s"));
}

static void printing_ids(void) {
  char text[20] = "untouched";
  jlog_id id = {0x12ab, 0xcdef0123};

  claim("an id is printed as two times eight hex digits");
  EQUAL(17, jlog_snprint_logid(text, sizeof text, &id));
  TEXT("000012ab:cdef0123", text);
  EQUAL(17, jlog_snprint_logid(text, 18, &id));
  TEXT("000012ab:cdef0123", text);
  EQUAL(17, jlog_snprint_logid(text, 9, &id));
  TEXT("000012ab", text);
  EQUAL(17, jlog_snprint_logid(text, 1, &id));
  TEXT("", text);
}

int main(int argc, char **argv) {
  begin(argc, argv);
  making_a_log();
  subscribers_come_and_go();
  writing_messages();
  reading_messages();
  rotating_and_pruning();
  cleaning();
  buffering();
  if (!reference()) beside_a_buffer();
  altering();
  inspecting_and_repairing();
  printing_ids();
  return finish();
}
