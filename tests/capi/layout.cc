// The headers in C++: they compile, with C linkage, and sizes, offsets and values are the same.
#include "jlog.h"
#include "jlog_io.h"
#include "jlog_private.h"

#include <cstdio>
#include <fcntl.h>
#include <string>

#define STATIC(condition, text) static_assert(condition, text)
#include "layout.h"

static unsigned checks, failures;

static void check(bool holds, const char *what, int line) {
  checks++;
  if (!holds) {
    failures++;
    std::printf("layout.cc:%d: expected %s\n", line, what);
  }
}
#define CHECK(condition) check((condition), #condition, __LINE__)

int main(int argc, char **argv) {
  if (argc < 2) return 2;
  const std::string path = std::string(argv[1]) + "/log";
  char name[9], text[20];

  jlog_ctx *ctx = jlog_new(path.c_str());
  CHECK(path == ctx->path);
  CHECK(jlog_ctx_init(ctx) == 0);
  CHECK(jlog_ctx_add_subscriber(ctx, "s", JLOG_BEGIN) == 0);
  CHECK(jlog_ctx_close(ctx) == 0);

  ctx = jlog_new(path.c_str());
  CHECK(jlog_ctx_open_writer(ctx) == 0);
  CHECK(jlog_ctx_write(ctx, "hello", 5) == 0);
  CHECK(jlog_ctx_close(ctx) == 0);

  jlog_id first, last;
  jlog_message message;
  uint32_t marker;
  int closed;
  ctx = jlog_new(path.c_str());
  CHECK(jlog_ctx_open_reader(ctx, "s") == 0);
  CHECK(jlog_ctx_read_interval(ctx, &first, &last) == 1);
  CHECK(jlog_ctx_read_message(ctx, &first, &message) == 0);
  CHECK(std::string(static_cast<char *>(message.mess), message.mess_len) == "hello");
  CHECK(jlog_idx_details(ctx, 0, &marker, &closed) == 0 && marker == 1 && closed == 0);
  CHECK(jlog_ctx_close(ctx) == 0);

  STRLOGID(name, 0x12u);
  CHECK(std::string(name) == "00000012");
  CHECK(jlog_snprint_logid(text, sizeof text, &first) == 17 && std::string(text) == "00000000:00000001");

  jlog_file *file = jlog_file_open((path + "/00000000").c_str(), 0, 0640, 1);
  CHECK(file && jlog_file_size(file) == 21);
  CHECK(file && jlog_file_close(file) == 1);

  std::printf("%u checks, %u failures\n", checks, failures);
  return static_cast<int>(failures);
}
