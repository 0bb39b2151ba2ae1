/* The error callback, and the file primitives: shared handles, locks between threads and processes, failures. */
#include "check.h"

#include <sched.h>
#include <sys/resource.h>

/* ---- the error callback ---- */

struct told {
  jlog_ctx *ctx;
  int times, err, number;
  pthread_t thread;
  char text[1024], name[64];
};

static void tell(void *to, const char *format, ...) {
  struct told *told = to;
  va_list arguments;
  told->times++;
  told->thread = pthread_self();
  va_start(arguments, format);
  vsnprintf(told->text, sizeof told->text, format, arguments);
  va_end(arguments);
  if (told->times == 1) {
    told->err = jlog_ctx_err(told->ctx);
    told->number = jlog_ctx_errno(told->ctx);
    snprintf(told->name, sizeof told->name, "%s", jlog_ctx_err_string(told->ctx));
  }
  errno = 4711;
}

static void told_of_errors(void) {
  const char *path = at("told");
  struct told told = {0}, nobody = {0};
  jlog_id first, last, id = {0, 77};
  jlog_message message;
  jlog_ctx *ctx;

  claim("a failure is told of by a format and arguments, before the call returns, in its thread");
  told.ctx = ctx = jlog_new(path);
  jlog_set_error_func(ctx, tell, &told);
  FAILS(ctx, JLOG_ERR_OPEN, jlog_ctx_open_writer(ctx));
  EQUAL(1, told.times);
  CHECK(!strncmp(told.text, "JLOG-", 5));
  CHECK(strstr(told.text, " error: 3 (JLOG_ERR_OPEN) errno: 2 (No such file or directory)\n") != NULL);
  CHECK(pthread_equal(told.thread, pthread_self()));

  claim("the callback may ask the context what it was");
  EQUAL(JLOG_ERR_OPEN, told.err);
  EQUAL(ENOENT, told.number);
  TEXT("JLOG_ERR_OPEN", told.name);

  claim("what the callback does to errno is not the context's errno");
  EQUAL(ENOENT, jlog_ctx_errno(ctx));
  EQUAL(0, jlog_ctx_close(ctx));
  if (!reference()) {
    claim("errno is the call's, not the callback's");
    told = (struct told){.ctx = ctx = jlog_new(path)};
    jlog_set_error_func(ctx, tell, &told);
    errno = 0;
    FAILS(ctx, JLOG_ERR_OPEN, jlog_ctx_open_reader(ctx, "s"));
    CHECK(told.times > 0 && errno != 4711);
    EQUAL(0, jlog_ctx_close(ctx));
  }

  claim("reading tells of errors, and one that is told of is the one that is answered");
  make_log(path, 4194304);
  ctx = writer(path);
  put_numbered(ctx, 1, 3);
  EQUAL(0, jlog_ctx_close(ctx));
  told = (struct told){.ctx = ctx = reader(path, "s")};
  jlog_set_error_func(ctx, tell, &told);
  FAILS(ctx, JLOG_ERR_ILLEGAL_LOGID, jlog_ctx_read_message(ctx, &id, &message));
  CHECK(told.times > 0);
  EQUAL(JLOG_ERR_ILLEGAL_LOGID, told.err);
  CHECK(strstr(told.text, "(JLOG_ERR_ILLEGAL_LOGID)") != NULL);

  claim("another function and another pointer take the place of the first");
  nobody.ctx = ctx;
  jlog_set_error_func(ctx, tell, &nobody);
  told.times = 0;
  FAILS(ctx, JLOG_ERR_ILLEGAL_LOGID, jlog_ctx_read_message(ctx, &id, &message));
  EQUAL(0, told.times);
  CHECK(nobody.times > 0);

  claim("without a function nobody is told");
  jlog_set_error_func(ctx, NULL, NULL);
  nobody.times = 0;
  FAILS(ctx, JLOG_ERR_ILLEGAL_LOGID, jlog_ctx_read_message(ctx, &id, &message));
  EQUAL(0, told.times + nobody.times);
  EQUAL(0, jlog_ctx_close(ctx));

  claim("what succeeds is not told of");
  path = at("not-told");
  told = (struct told){.ctx = ctx = jlog_new(path)};
  jlog_set_error_func(ctx, tell, &told);
  OK(ctx, jlog_ctx_alter_journal_size(ctx, 60));
  OK(ctx, jlog_ctx_init(ctx));
  OK(ctx, jlog_ctx_add_subscriber(ctx, "s", JLOG_BEGIN));
  EQUAL(0, jlog_ctx_close(ctx));
  told.ctx = ctx = jlog_new(path);
  jlog_set_error_func(ctx, tell, &told);
  OK(ctx, jlog_ctx_open_writer(ctx));
  put_numbered(ctx, 1, 9);
  OK(ctx, jlog_ctx_add_subscriber(ctx, "end", JLOG_END));
  EQUAL(0, jlog_ctx_close(ctx));
  told.ctx = ctx = jlog_new(path);
  jlog_set_error_func(ctx, tell, &told);
  OK(ctx, jlog_ctx_open_reader(ctx, "s"));
  EQUAL(3, jlog_ctx_read_interval(ctx, &first, &last));
  OK(ctx, jlog_ctx_read_message(ctx, &first, &message));
  OK(ctx, jlog_ctx_read_checkpoint(ctx, &last));
  EQUAL(3, jlog_ctx_read_interval(ctx, &first, &last));
  OK(ctx, jlog_ctx_last_log_id(ctx, &id));
  EQUAL(0, jlog_ctx_close(ctx));
  check_that(told.times == 0, __FILE__, __LINE__, "expected nothing told of, found %s", told.text);
}

/* ---- files ---- */

static int open_descriptors(void) {
  struct dirent **names;
  int n = scandir("/proc/self/fd", &names, NULL, NULL);
  for (int i = 0; i < n; i++) free(names[i]);
  if (n > 0) free(names);
  return n;
}

static void opening_files(void) {
  const char *path = at("opened"), *other = at("other-name"), *linked = at("linked");
  char roundabout[PATH_MAX], byte = 'x';
  jlog_file *file, *again;
  struct stat status;
  int before = open_descriptors();

  claim("a file that is not there is opened only with O_CREAT");
  errno = 0;
  CHECK(jlog_file_open(path, 0, 0640, 1) == NULL);
  EQUAL(ENOENT, errno);
  file = jlog_file_open(path, O_CREAT, 0666, 1);
  CHECK(file != NULL);
  EQUAL(0, stat(path, &status));
  EQUAL(0644, status.st_mode & 0777);
  EQUAL(0, jlog_file_size(file));

  claim("a file that is open already is the same handle, by whatever name");
  snprintf(roundabout, sizeof roundabout, "%s/./opened", check_scratch);
  EQUAL(0, link(path, other));
  EQUAL(0, symlink(path, linked));
  again = jlog_file_open(path, 0, 0, 1);
  CHECK(again == file);
  CHECK(jlog_file_open(roundabout, O_CREAT, 0640, 1) == file);
  CHECK(jlog_file_open(other, 0, 0640, 0) == file);
  CHECK(jlog_file_open(linked, 0, 0640, 1) == file);
  EQUAL(before + 1, open_descriptors());

  claim("O_EXCL refuses a file that is there, open or not");
  errno = 0;
  CHECK(jlog_file_open(path, O_CREAT | O_EXCL, 0640, 1) == NULL);
  EQUAL(EEXIST, errno);
  write_file(at("there"), "", 0);
  errno = 0;
  CHECK(jlog_file_open(at("there"), O_CREAT | O_EXCL, 0640, 1) == NULL);
  EQUAL(EEXIST, errno);

  claim("other flags do not count");
  EQUAL(1, jlog_file_pwrite(file, "kept", 4, 0));
  CHECK(jlog_file_open(path, O_TRUNC | O_RDONLY, 0640, 1) == file);
  EQUAL(4, jlog_file_size(file));
  EQUAL(1, jlog_file_pwrite(file, "k", 1, 0));

  claim("a file is closed when everybody who opened it has closed it");
  for (int i = 0; i < 5; i++) {
    EQUAL(1, jlog_file_close(file));
    EQUAL(1, jlog_file_pread(file, &byte, 1, 0));
    EQUAL('k', byte);
  }
  EQUAL(before + 1, open_descriptors());
  EQUAL(1, jlog_file_close(file));
  EQUAL(before, open_descriptors());

  claim("another file has another handle, also under a name that was used before");
  file = jlog_file_open(path, 0, 0640, 1);
  again = jlog_file_open(at("there"), 0, 0640, 1);
  CHECK(file != NULL && again != NULL && file != again);
  EQUAL(1, jlog_file_close(again));
  EQUAL(0, unlink(path));
  again = jlog_file_open(path, O_CREAT | O_EXCL, 0640, 1);
  CHECK(again != NULL && again != file);
  EQUAL(4, jlog_file_size(file));
  EQUAL(0, jlog_file_size(again));
  EQUAL(1, jlog_file_close(again));
  EQUAL(1, jlog_file_close(file));

  claim("what is no file is not opened");
  CHECK(jlog_file_open(check_scratch, 0, 0640, 1) == NULL);
  CHECK(jlog_file_open("/dev/null", 0, 0640, 1) == NULL);
  errno = 0;
  CHECK(jlog_file_open(at("no/such/folder"), O_CREAT, 0640, 1) == NULL);
  EQUAL(ENOENT, errno);
  EQUAL(before, open_descriptors());
}

static void transfers(void) {
  const char *path = at("transfers");
  char bytes[64] = "";
  struct iovec pieces[3] = {{"one", 3}, {"", 0}, {"three", 5}};
  jlog_file *file = jlog_file_open(path, O_CREAT | O_EXCL, 0640, 1);
  struct rlimit limit, full;
  void *base = &base, *untouched = &base;
  size_t length = 99;

  claim("what is written is read, at any offset");
  EQUAL(1, jlog_file_pwrite(file, "0123456789", 10, 0));
  EQUAL(1, jlog_file_pwrite(file, "ab", 2, 4));
  EQUAL(1, jlog_file_pread(file, bytes, 10, 0));
  TEXT("0123ab6789", bytes);
  EQUAL(1, jlog_file_pread(file, bytes, 3, 7));
  CHECK(!memcmp(bytes, "789", 3));
  EQUAL(10, jlog_file_size(file));

  claim("a read that the file's end cuts short fails");
  EQUAL(0, jlog_file_pread(file, bytes, 3, 8));
  EQUAL(0, jlog_file_pread(file, bytes, 1, 10));
  EQUAL(1, jlog_file_pread(file, bytes, 0, 10));
  errno = 0;
  EQUAL(0, jlog_file_pread(file, bytes, 1, -1));
  EQUAL(EINVAL, errno);

  claim("a write beyond the end leaves zeros between");
  EQUAL(1, jlog_file_pwrite(file, "z", 1, 12));
  EQUAL(13, jlog_file_size(file));
  EQUAL(1, jlog_file_pread(file, bytes, 3, 10));
  CHECK(!memcmp(bytes, "\0\0z", 3));
  EQUAL(1, jlog_file_pwrite(file, "", 0, 100));
  EQUAL(13, jlog_file_size(file));
  errno = 0;
  EQUAL(0, jlog_file_pwrite(file, "z", 1, -1));
  EQUAL(EINVAL, errno);

  claim("pieces are written one behind the other");
  EQUAL(1, jlog_file_pwritev(file, pieces, 3, 13));
  EQUAL(21, jlog_file_size(file));
  EQUAL(1, jlog_file_pwritev_verify_return_value(file, pieces, 3, 21, 8));
  EQUAL(1, jlog_file_pread(file, bytes, 16, 13));
  CHECK(!memcmp(bytes, "onethreeonethree", 16));
  errno = 0;
  EQUAL(0, jlog_file_pwritev(file, pieces, 3, -1));
  EQUAL(EINVAL, errno);
  /* libjlog writes them for ever. */
  if (!reference()) {
    claim("pieces that are not as long as was said are a failure");
    EQUAL(0, jlog_file_pwritev_verify_return_value(file, pieces, 3, 29, 7));
    EQUAL(0, jlog_file_pwritev_verify_return_value(file, pieces, 3, 29, 9));
    EQUAL(1, jlog_file_truncate(file, 29));
  }

  claim("a full disk is a failure");
  signal(SIGXFSZ, SIG_IGN);
  getrlimit(RLIMIT_FSIZE, &limit);
  full = limit;
  full.rlim_cur = 29;
  setrlimit(RLIMIT_FSIZE, &full);
  errno = 0;
  int written = jlog_file_pwrite(file, "z", 1, 29), number = errno;
  errno = 0;
  int gathered = jlog_file_pwritev(file, pieces, 3, 29), gathered_number = errno;
  errno = 0;
  int lengthened = jlog_file_truncate(file, 30), lengthened_number = errno;
  /* libjlog tries the rest again for ever; pwrite there goes on behind what it wrote, but with the same bytes. */
  int cut_short = reference() ? 0 : jlog_file_pwritev(file, pieces, 3, 25);
  setrlimit(RLIMIT_FSIZE, &limit);
  EQUAL(0, written);
  EQUAL(EFBIG, number);
  EQUAL(0, gathered);
  EQUAL(EFBIG, gathered_number);
  EQUAL(0, lengthened);
  EQUAL(EFBIG, lengthened_number);
  EQUAL(0, cut_short);
  EQUAL(29, jlog_file_size(file));

  claim("a file is cut and lengthened");
  EQUAL(1, jlog_file_truncate(file, 5));
  EQUAL(5, jlog_file_size(file));
  EQUAL(1, jlog_file_truncate(file, 7));
  EQUAL(1, jlog_file_pread(file, bytes, 7, 0));
  CHECK(!memcmp(bytes, "0123a\0\0", 7));
  errno = 0;
  EQUAL(0, jlog_file_truncate(file, -1));
  EQUAL(EINVAL, errno);
  EQUAL(1, jlog_file_sync(file));

  claim("a map is the whole file, and shared");
  EQUAL(1, jlog_file_map_read(file, &base, &length));
  EQUAL(7, length);
  CHECK(!memcmp(base, "0123a\0\0", 7));
  EQUAL(1, jlog_file_pwrite(file, "Z", 1, 0));
  CHECK(*(char *)base == 'Z');
  EQUAL(0, munmap(base, length));
  EQUAL(1, jlog_file_map_rdwr(file, &base, &length));
  EQUAL(7, length);
  memcpy(base, "map", 3);
  EQUAL(1, jlog_file_pread(file, bytes, 3, 0));
  CHECK(!memcmp(bytes, "map", 3));
  EQUAL(0, munmap(base, length));

  claim("an empty file is not mapped");
  EQUAL(1, jlog_file_truncate(file, 0));
  base = untouched;
  length = 99;
  errno = 0;
  EQUAL(0, jlog_file_map_read(file, &base, &length));
  EQUAL(EINVAL, errno);
  errno = 0;
  EQUAL(0, jlog_file_map_rdwr(file, &base, &length));
  EQUAL(EINVAL, errno);
  CHECK(base == untouched && length == 99);
  EQUAL(1, jlog_file_close(file));
}

/* ---- locks ---- */

enum { LOCKERS = 8, TIMES = 500 };

static jlog_file *locked_file;
static long counted; /* only under the file's lock, so that it comes out right */

static void *count_under_lock(void *failures) {
  for (int i = 0; i < TIMES; i++) {
    if (!jlog_file_lock(locked_file)) ++*(int *)failures;
    long seen = *(volatile long *)&counted;
    if (i % 50 == 0) sched_yield();
    *(volatile long *)&counted = seen + 1;
    if (!jlog_file_unlock(locked_file)) ++*(int *)failures;
  }
  return NULL;
}

static void locking_threads(int multi_process) {
  const char *path = at("threads-%d", multi_process);
  pthread_t threads[LOCKERS];
  int failures[LOCKERS] = {0};

  claim("a lock keeps other threads out");
  locked_file = jlog_file_open(path, O_CREAT, 0640, multi_process);
  counted = 0;
  for (int i = 0; i < LOCKERS; i++) pthread_create(&threads[i], NULL, count_under_lock, &failures[i]);
  for (int i = 0; i < LOCKERS; i++) {
    pthread_join(threads[i], NULL);
    EQUAL(0, failures[i]);
  }
  EQUAL(LOCKERS * TIMES, counted);
  EQUAL(1, jlog_file_close(locked_file));
}

static void locking_processes(void) {
  const char *path = at("processes");
  uint64_t count = 0;
  pid_t children[4];
  jlog_file *file;

  claim("a lock keeps other processes out");
  write_file(path, &count, 8);
  fflush(stdout);
  for (int i = 0; i < 4; i++) {
    children[i] = fork();
    if (children[i] == 0) {
      file = jlog_file_open(path, 0, 0640, 1);
      for (int n = 0; n < 250; n++) {
        if (!jlog_file_lock(file) || !jlog_file_pread(file, &count, 8, 0)) _exit(1);
        count++;
        if (!jlog_file_pwrite(file, &count, 8, 0) || !jlog_file_unlock(file)) _exit(1);
      }
      jlog_file_close(file);
      _exit(0);
    }
  }
  for (int i = 0; i < 4; i++) {
    int status;
    waitpid(children[i], &status, 0);
    EQUAL(0, status);
  }
  EQUAL(8, read_file(path, &count, 8));
  EQUAL(1000, count);

  claim("a lock keeps a child out that has the handle from its parent");
  count = 0;
  write_file(path, &count, 8);
  file = jlog_file_open(path, 0, 0640, 1);
  fflush(stdout);
  for (int i = 0; i < 4; i++) {
    children[i] = fork();
    if (children[i] == 0) {
      for (int n = 0; n < 250; n++) {
        if (!jlog_file_lock(file) || !jlog_file_pread(file, &count, 8, 0)) _exit(1);
        if (n % 10 == 0) sched_yield();
        count++;
        if (!jlog_file_pwrite(file, &count, 8, 0) || !jlog_file_unlock(file)) _exit(1);
      }
      _exit(0);
    }
  }
  for (int i = 0; i < 4; i++) {
    int status;
    waitpid(children[i], &status, 0);
    EQUAL(0, status);
  }
  EQUAL(1, jlog_file_close(file));
  EQUAL(8, read_file(path, &count, 8));
  EQUAL(1000, count);

  claim("libjlog's processes and these keep each other out: it is an fcntl lock on the whole file");
  file = jlog_file_open(path, 0, 0640, 1);
  for (int locked = 1; locked >= 0; locked--) {
    int status;
    EQUAL(1, locked ? jlog_file_lock(file) : jlog_file_unlock(file));
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
      struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
      int fd = open(path, O_RDWR);
      _exit(fcntl(fd, F_SETLK, &lock) == 0 ? 0 : errno == EAGAIN || errno == EACCES ? 1 : 2);
    }
    waitpid(child, &status, 0);
    EQUAL(locked, WEXITSTATUS(status));
  }

  claim("what is not locked is not unlocked");
  EQUAL(0, jlog_file_unlock(file));
  EQUAL(1, jlog_file_lock(file));
  EQUAL(1, jlog_file_unlock(file));
  EQUAL(0, jlog_file_unlock(file));
  EQUAL(1, jlog_file_close(file));

  claim("without multi_process other processes are not kept out");
  file = jlog_file_open(path, 0, 0640, 0);
  EQUAL(1, jlog_file_lock(file));
  fflush(stdout);
  pid_t child = fork();
  if (child == 0) {
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    _exit(fcntl(open(path, O_RDWR), F_SETLK, &lock) == 0 ? 0 : 1);
  }
  int status;
  waitpid(child, &status, 0);
  EQUAL(0, WEXITSTATUS(status));
  EQUAL(1, jlog_file_unlock(file));
  EQUAL(1, jlog_file_close(file));
}

int main(int argc, char **argv) {
  begin(argc, argv);
  told_of_errors();
  opening_files();
  transfers();
  locking_threads(1);
  locking_threads(0);
  locking_processes();
  return finish();
}
