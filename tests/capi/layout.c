/* Sizes, offsets and values as a C program sees them, and that the library puts things at those places. */
#include "check.h"

#define STATIC(condition, text) _Static_assert(condition, text)
#include "layout.h"

static void values_are_what_they_were(void) {
  claim("enum values, sizes and offsets are those of libjlog 2.6");
#define RUN_VALUE(name, value) EQUAL(value, name);
#define RUN_SIZE(type, size) EQUAL(size, sizeof(type));
#define RUN_FIELD(type, field, offset, size) EQUAL(offset, offsetof(type, field));
  ENUM_VALUES(RUN_VALUE)
  TYPE_SIZES(RUN_SIZE)
  FIELD_PLACES(RUN_FIELD)
  TEXT(".idx", INDEX_EXT);
}

static void macros_make_names(void) {
  char name[9], path[PATH_MAX];
  jlog_id id = {3, 7};
  jlog_ctx *ctx = jlog_new(at("named"));

  claim("the private header's macros make the names of segments");
  STRLOGID(name, 0);
  TEXT("00000000", name);
  STRLOGID(name, 0x1a2b3c4du);
  TEXT("1a2b3c4d", name);
  STRLOGID(name, 0xffffffffu);
  TEXT("ffffffff", name);
  STRSETDATAFILE(ctx, path, 0xabu);
  TEXT(at("named/000000ab"), path);
  jlog_ctx_close(ctx);

  claim("JLOG_ID_ADVANCE goes one marker on");
  JLOG_ID_ADVANCE(&id);
  ID(3, 8, id);
}

/* jlogctl and jthreadtest look at these. */
static void a_context_shows_its_log(void) {
  const char *path = at("shown");
  jlog_ctx *ctx = jlog_new(path);

  claim("a new context shows its path and the defaults of the log it would make");
  TEXT(path, ctx->path);
  CHECK(ctx->path != path);
  EQUAL(DEFAULT_UNIT_LIMIT, ctx->meta->unit_limit);
  EQUAL(DEFAULT_SAFETY, ctx->meta->safety);
  EQUAL(DEFAULT_HDR_MAGIC, ctx->meta->hdr_magic);
  EQUAL(0, ctx->meta->storage_log);
  EQUAL(JLOG_NEW, ctx->context_mode);
  OK(ctx, jlog_ctx_alter_journal_size(ctx, 100));
  EQUAL(100, ctx->meta->unit_limit);
  OK(ctx, jlog_ctx_init(ctx));
  EQUAL(JLOG_INIT, ctx->context_mode);
  jlog_ctx_close(ctx);

  claim("an open context shows the log's metastore as it changes");
  ctx = writer(path);
  EQUAL(JLOG_APPEND, ctx->context_mode);
  EQUAL(100, ctx->meta->unit_limit);
  EQUAL(DEFAULT_HDR_MAGIC, ctx->meta->hdr_magic);
  EQUAL(0, ctx->meta->storage_log);
  put_numbered(ctx, 1, 4);
  EQUAL(1, ctx->meta->storage_log);
  OK(ctx, jlog_ctx_alter_journal_size(ctx, 1000));
  OK(ctx, jlog_ctx_alter_safety(ctx, JLOG_SAFE));
  EQUAL(1000, ctx->meta->unit_limit);
  EQUAL(JLOG_SAFE, ctx->meta->safety);
  EQUAL(4, ctx->pre_commit_buffer_len);
  OK(ctx, jlog_ctx_add_subscriber(ctx, "s", JLOG_BEGIN));
  jlog_ctx_close(ctx);

  claim("a reader sees what writers change");
  jlog_ctx *other = writer(path);
  ctx = reader(path, "s");
  EQUAL(JLOG_READ, ctx->context_mode);
  EQUAL(1000, ctx->meta->unit_limit);
  OK(other, jlog_ctx_alter_journal_size(other, 2000));
  TEXT("[message 01][message 02][message 03][message 04]", drain(ctx));
  EQUAL(2000, ctx->meta->unit_limit);
  EQUAL(1, ctx->meta->storage_log);
  jlog_ctx_close(ctx);
  jlog_ctx_close(other);

  claim("pre_commit_buffer_len is the file's size");
  ctx = jlog_new(path);
  OK(ctx, jlog_ctx_set_pre_commit_buffer_size(ctx, 4096));
  OK(ctx, jlog_ctx_open_writer(ctx));
  EQUAL(4100, ctx->pre_commit_buffer_len);
  EQUAL(4100, file_size(in(path, "pre_commit")));
  jlog_ctx_close(ctx);

  claim("a failed open makes a context invalid");
  ctx = jlog_new(at("nothing"));
  FAILS(ctx, JLOG_ERR_OPEN, jlog_ctx_open_writer(ctx));
  EQUAL(JLOG_INVALID, ctx->context_mode);
  jlog_ctx_close(ctx);
}

int main(int argc, char **argv) {
  begin(argc, argv);
  values_are_what_they_were();
  macros_make_names();
  a_context_shows_its_log();
  return finish();
}
