/*
 * jlog.h: a durable journaled log, for C programs.
 *
 * A log is a directory. Writers append messages to its last segment, subscribers read them, each at its own pace, and
 * a checkpoint per subscriber says how far it is. Segments that every checkpoint has left behind are deleted.
 *
 * Functions, types, values and layouts are those of libjlog 2.6: a program built against that library runs with this
 * one, and one that compiles against its headers compiles against these. What is new stands at the end and has
 * JLOG_HAS_EXTENSIONS. docs/format-classic.md and docs/durability.md say more.
 *
 * Results. Unless its comment says otherwise a function returns 0, or -1 after a failure; jlog_ctx_err() then tells
 * which one, jlog_ctx_errno() the errno that came with it. A pointer that is NULL where something is needed is such a
 * failure, with errno EINVAL.
 *
 * Threads. A context opened for writing may be used by several threads. Any other context belongs to one thread at a
 * time. Different contexts are independent of each other, also those of one log in one process.
 *
 * Lengths and sizes are bytes, modes are permission bits, times are seconds since 1970.
 */
#ifndef _JLOG_H
#define _JLOG_H

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
/* Programs have always had these from this header: u_int32_t, MAXPATHLEN, basename, struct stat, struct timeval. */
#include <libgen.h>
#include <sys/param.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/types.h>

#ifndef JLOG_API
#ifdef __cplusplus
#define JLOG_API(type) extern "C" type
#else
#define JLOG_API(type) type
#endif
#endif

/* ---- types ---- */

/* An open log, or one to be opened or made. jlog_new() makes it, jlog_ctx_close() ends it. */
typedef struct _jlog_ctx jlog_ctx;

/* A message's place: the number of its segment, and its number within that segment, counted from 1. As a checkpoint
 * it is the last message that is done with; marker 0 is "none of this segment". */
typedef struct _jlog_id {
  uint32_t log;
  uint32_t marker;
} jlog_id;

/* The next message of the same segment. jlog_ctx_advance_id() goes on to the next segment as well. */
#define JLOG_ID_ADVANCE(id) ((id)->marker++)

/* What stands before a message in a segment of the classic format, in the byte order of the machine that wrote it. */
typedef struct _jlog_message_header {
  uint32_t reserved; /* the magic number of the log's records */
  uint32_t tv_sec;
  uint32_t tv_usec;
  uint32_t mlen;     /* bytes of the message */
} jlog_message_header;

/* The same in a compressed log. */
typedef struct _jlog_message_header_compressed {
  uint32_t reserved;
  uint32_t tv_sec;
  uint32_t tv_usec;
  uint32_t mlen;           /* bytes of the message as it was written and is read */
  uint32_t compressed_len; /* bytes that it takes in the segment */
} jlog_message_header_compressed;

/* A message read or to be written. After reading, `header` points to the message's header, most often `aligned_header`;
 * in a log without compression its compressed_len means nothing. */
typedef struct _jlog_message {
  jlog_message_header_compressed *header;
  uint32_t mess_len;
  void *mess;
  jlog_message_header_compressed aligned_header;
} jlog_message;

/* Where a new subscriber begins: with the oldest message there is, or with the next that is written. */
typedef enum {
  JLOG_BEGIN = 0,
  JLOG_END = 1
} jlog_position;

/* A log's safety level, which is kept in the log. In a classic log jlog_ctx_write() returns when the message is
 * on the disk at JLOG_SAFE, and when the kernel has it at the two others: there, the death of the process takes
 * nothing, a loss of power may take what the end of the log had not synced yet. In a checksummed log (see the end)
 * JLOG_ALMOST_SAFE syncs every second as well. */
typedef enum {
  JLOG_UNSAFE = 0,
  JLOG_ALMOST_SAFE = 1, /* what a classic log has if nothing was said */
  JLOG_SAFE = 2
} jlog_safety;

/* What the last call on a context met with. jlog_err_string() gives the names. */
typedef enum {
  JLOG_ERR_SUCCESS = 0,
  JLOG_ERR_ILLEGAL_INIT = 1,        /* jlog_ctx_init() of a context that is not new */
  JLOG_ERR_ILLEGAL_OPEN = 2,        /* an open of a context that is not new */
  JLOG_ERR_OPEN = 3,                /* the path, or a checkpoint in it, cannot be opened */
  JLOG_ERR_NOTDIR = 4,              /* the path is no directory */
  JLOG_ERR_CREATE_PATHLEN = 5,      /* the path is too long for the names of the log's files */
  JLOG_ERR_CREATE_EXISTS = 6,       /* there is something at the path already */
  JLOG_ERR_CREATE_MKDIR = 7,        /* the directory cannot be made */
  JLOG_ERR_CREATE_META = 8,         /* the metastore cannot be written */
  JLOG_ERR_CREATE_PRE_COMMIT = 9,   /* the pre_commit buffer cannot be made */
  JLOG_ERR_LOCK = 10,               /* a lock cannot be had */
  JLOG_ERR_IDX_OPEN = 11,           /* an index file: opening, */
  JLOG_ERR_IDX_SEEK = 12,           /*   finding a place in it, */
  JLOG_ERR_IDX_CORRUPT = 13,        /*   it does not fit its segment, */
  JLOG_ERR_IDX_WRITE = 14,          /*   writing, */
  JLOG_ERR_IDX_READ = 15,           /*   reading */
  JLOG_ERR_FILE_OPEN = 16,          /* a segment: opening, */
  JLOG_ERR_FILE_SEEK = 17,          /*   finding a place in it, */
  JLOG_ERR_FILE_CORRUPT = 18,       /*   its bytes are no messages, */
  JLOG_ERR_FILE_READ = 19,          /*   reading, */
  JLOG_ERR_FILE_WRITE = 20,         /*   writing or syncing; see jlog_ctx_err_detail() */
  JLOG_ERR_META_OPEN = 21,          /* no metastore, or none that can be used: this is no log */
  JLOG_ERR_PRE_COMMIT_OPEN = 22,    /* the pre_commit buffer cannot be opened */
  JLOG_ERR_ILLEGAL_WRITE = 23,      /* a context that is not open for writing, or reading, was asked to */
  JLOG_ERR_ILLEGAL_CHECKPOINT = 24, /* a context that is not open for reading has no checkpoint */
  JLOG_ERR_INVALID_SUBSCRIBER = 25, /* there is no such subscriber */
  JLOG_ERR_ILLEGAL_LOGID = 26,      /* there is no message with this id */
  JLOG_ERR_SUBSCRIBER_EXISTS = 27,  /* there is a subscriber of this name already */
  JLOG_ERR_CHECKPOINT = 28,         /* checkpoints were mended */
  JLOG_ERR_NOT_SUPPORTED = 29,      /* a value that the function does not know */
  JLOG_ERR_CLOSE_LOGID = 30         /* the id one past the last message of a finished segment */
} jlog_err;

typedef enum {
  JLOG_COMPRESSION_NULL = 0,
  JLOG_COMPRESSION_LZ4 = 1
} jlog_compression_provider_choice;

typedef enum {
  JLOG_READ_METHOD_MMAP = 0,
  JLOG_READ_METHOD_PREAD = 1
} jlog_read_method_type;

/* Told of failures, with a format and arguments as for printf; `ctx` is the pointer given to jlog_set_error_func(). */
typedef void (*jlog_error_func)(void *ctx, const char *msg, ...);

/* ---- a context ---- */

/* A context for the log at `path`, which is copied and need not exist; no file is touched. Give it back with
 * jlog_ctx_close(), also when opening or making the log failed. NULL: no memory, or no path (errno). */
JLOG_API(jlog_ctx *) jlog_new(const char *path);

/* Syncs what a writer has written, moves what a pre_commit buffer holds into the log, releases every file and frees
 * the context. Always 0: whoever must know that everything is on the disk calls jlog_ctx_sync() before. What reads
 * have lent (jlog_message) ends with the context. */
JLOG_API(int) jlog_ctx_close(jlog_ctx *ctx);

/* What the last call that failed met with (a jlog_err), its name, and the errno that came with it. Most calls begin by
 * setting them to JLOG_ERR_SUCCESS and leave them so when they succeed. The name is a constant. */
JLOG_API(int) jlog_ctx_err(jlog_ctx *ctx);
JLOG_API(const char *) jlog_ctx_err_string(jlog_ctx *ctx);
JLOG_API(int) jlog_ctx_errno(jlog_ctx *ctx);

/* The name of any jlog_err, "Unknown" for other numbers and for the two that have to do with pre_commit. A constant. */
JLOG_API(const char *) jlog_err_string(int err);

/* `func` (NULL: nobody) is told of failures from now on, with `ptr` as its first argument, in the thread whose call
 * failed and before that call returns. It may ask the context for its error; it must not do anything else with it. */
JLOG_API(void) jlog_set_error_func(jlog_ctx *ctx, jlog_error_func func, void *ptr);

/* ---- settings before a log is made or opened ---- */

/* Permissions of files made from now on; 0640 if nothing is said. The directory gets an x for every r. Always 0. */
JLOG_API(int) jlog_ctx_alter_mode(jlog_ctx *ctx, int mode);

/* The size at which a segment is finished and the next one begun; 4 MiB if nothing is said. Before init: of the log
 * that is made. In an open writer: of this log from now on, for all of its writers. -1 in any other context, unless it
 * is the size that the log has. */
JLOG_API(int) jlog_ctx_alter_journal_size(jlog_ctx *ctx, size_t size);

/* The safety level, under the same rules. What jlog_ctx_write() promises, it promises from the next message on; another
 * writer that is open keeps to the level it has found. */
JLOG_API(int) jlog_ctx_alter_safety(jlog_ctx *ctx, jlog_safety safety);

/* How messages are read, until the first one has been: -1 after that. */
JLOG_API(int) jlog_ctx_alter_read_method(jlog_ctx *ctx, jlog_read_method_type method);

/* 0: no other process has this log open, which saves the file locks. 1 (the default): there may be others. Always 0. A
 * writer of a checksummed log owns it then, as it does with a pre_commit buffer: while it is open, any other writer is
 * refused (JLOG_ERR_LOCK), also in the same process. */
JLOG_API(int) jlog_ctx_set_multi_process(jlog_ctx *ctx, uint8_t mproc);

/* Whether jlog_ctx_init() makes a compressed log, and how it compresses: lz4 if nothing is said. An existing log is
 * what it was made to be. Always 0. */
JLOG_API(int) jlog_ctx_set_use_compression(jlog_ctx *ctx, uint8_t use);
JLOG_API(int) jlog_ctx_set_compression_provider(jlog_ctx *ctx, jlog_compression_provider_choice provider);

/* Before jlog_ctx_open_writer(): collect up to `s` bytes of messages in the file pre_commit before they go to the
 * segment, in one write; 0: do not. For one writer at a time. Readers see messages when they have gone to the segment;
 * the death of the process loses none of them, the next writer finds them. Always 0. */
JLOG_API(int) jlog_ctx_set_pre_commit_buffer_size(jlog_ctx *ctx, size_t s);

/* ---- making, opening ---- */

/* Makes the log; on the disk when it returns, its name included. The context is of no use afterwards but for
 * subscribers: open another one. */
JLOG_API(int) jlog_ctx_init(jlog_ctx *ctx);

JLOG_API(int) jlog_ctx_open_writer(jlog_ctx *ctx);

/* As this subscriber, which there must be. */
JLOG_API(int) jlog_ctx_open_reader(jlog_ctx *ctx, const char *subscriber);

/* ---- subscribers: in any context, opened or not ---- */

/* A name is up to 126 bytes, any but NUL. On the disk when it returns. */
JLOG_API(int) jlog_ctx_add_subscriber(jlog_ctx *ctx, const char *subscriber, jlog_position whence);

/* The new one gets the checkpoint of the old one; if there is a new one already, it is moved there. */
JLOG_API(int) jlog_ctx_add_subscriber_copy_checkpoint(jlog_ctx *ctx, const char *new_subscriber,
                                                      const char *old_subscriber);

/* Moves a subscriber, or makes it. Segments that nobody needs any more are deleted; so is none by moving backwards. */
JLOG_API(int) jlog_ctx_set_subscriber_checkpoint(jlog_ctx *ctx, const char *subscriber, const jlog_id *checkpoint);

/* 1: removed. 0: there was none (JLOG_ERR_INVALID_SUBSCRIBER). -1: another failure. No segment is deleted by it. */
JLOG_API(int) jlog_ctx_remove_subscriber(jlog_ctx *ctx, const char *subscriber);

/* How many there are, or -1. `*subs` becomes an array of that many names and a NULL, in no particular order, which
 * jlog_ctx_list_subscribers_dispose() frees. */
JLOG_API(int) jlog_ctx_list_subscribers(jlog_ctx *ctx, char ***subs);
JLOG_API(int) jlog_ctx_list_subscribers_dispose(jlog_ctx *ctx, char **subs);

/* The checkpoint of a subscriber; of the context's own if `s` is NULL and it is open for reading. */
JLOG_API(int) jlog_get_checkpoint(jlog_ctx *ctx, const char *s, jlog_id *id);

/* How many subscribers have yet to finish with segment `log` or older ones, or -1. `*earliest_ptr` becomes the lowest
 * segment that any subscriber is in, 0 if there is none. The second function does without. */
JLOG_API(int) jlog_pending_readers(jlog_ctx *ctx, uint32_t log, uint32_t *earliest_ptr);
JLOG_API(int) __jlog_pending_readers(jlog_ctx *ctx, uint32_t log);

/* ---- writing ---- */

/* Appends a message of `mess_len` bytes (0 is fine) with the present time. What its return promises depends on the
 * log's safety level and jlog_ctx_set_durability(): at the least, that the kernel has it. A message that fails to be
 * written is not in the log; one longer than a record can say is refused. */
JLOG_API(int) jlog_ctx_write(jlog_ctx *ctx, const void *message, size_t mess_len);

/* The same, of msg->mess and msg->mess_len; `when` NULL: the present time. The rest of `msg` is not looked at. */
JLOG_API(int) jlog_ctx_write_message(jlog_ctx *ctx, jlog_message *msg, struct timeval *when);

/* Moves what the pre_commit buffer holds into the segment, where readers see it. 0 as well where there is none. */
JLOG_API(int) jlog_ctx_flush_pre_commit_buffer(jlog_ctx *ctx);

/* ---- reading: in a context opened as a subscriber ---- */

/* What there is to read: the number of messages from `*first_mess` to `*last_mess`, all in one segment; 0: nothing
 * new, and both are the checkpoint. Where a segment is behind the reader, its checkpoint moves on to the next one. */
JLOG_API(int) jlog_ctx_read_interval(jlog_ctx *ctx, jlog_id *first_mess, jlog_id *last_mess);

/* Reads one message. msg->header points into `msg`. msg->mess is lent by the context: in a log without compression
 * that is read by JLOG_READ_METHOD_MMAP, until the next read_interval, the next read of another segment, or close;
 * else until the next read. */
JLOG_API(int) jlog_ctx_read_message(jlog_ctx *ctx, const jlog_id *id, jlog_message *msg);

/* Reads `count` messages of one segment, from `id` on, into an array; all are lent at once, until the next read. 0, not
 * the number. */
JLOG_API(int) jlog_ctx_bulk_read_messages(jlog_ctx *ctx, const jlog_id *id, const int count, jlog_message *msgs);

/* All messages up to `checkpoint` are done with: the next reader of this subscriber goes on behind it. Deletes
 * segments that no subscriber needs any more. At JLOG_SAFE, or where a segment is deleted, on the disk when it returns;
 * else in the kernel. */
JLOG_API(int) jlog_ctx_read_checkpoint(jlog_ctx *ctx, const jlog_id *checkpoint);

/* ---- looking at a log ---- */

/* The lowest segment there is, with marker 0; in any context. */
JLOG_API(int) jlog_ctx_first_log_id(jlog_ctx *ctx, jlog_id *id);

/* The last message of the segment being written; in a reader. JLOG_ERR_FILE_OPEN while there is no such segment. */
JLOG_API(int) jlog_ctx_last_log_id(jlog_ctx *ctx, jlog_id *id);

/* The number of the segment being written; in a reader. */
JLOG_API(int) jlog_ctx_last_storage_log(jlog_ctx *ctx, uint32_t *logid);

/* Goes one message on. While `*cur` is not `*finish`: the marker of `*start` grows by one. At the end of an interval:
 * `*start` and `*finish` become the first and the last message of the next segment that has any, or `*start` becomes
 * `*cur` if none has. */
JLOG_API(int) jlog_ctx_advance_id(jlog_ctx *ctx, jlog_id *cur, jlog_id *start, jlog_id *finish);

/* An id as eight hex digits, a colon, eight hex digits: 17 bytes and a NUL. Truncates and counts as snprintf does. */
JLOG_API(int) jlog_snprint_logid(char *buff, int n, const jlog_id *checkpoint);

/* Bytes of all regular files of the log. 0 where there is no directory. */
JLOG_API(size_t) jlog_raw_size(jlog_ctx *ctx);

/* ---- cleaning, repair ---- */

/* Deletes the segments that are older than every checkpoint. How many it deleted, or -1; none where nobody has
 * subscribed. */
JLOG_API(int) jlog_clean(const char *path);

/* Mends the metastore and the checkpoints of a log that nobody has open; with `aggressive`, damaged segments as well.
 * 1: checkpoints were looked at and mended (JLOG_ERR_CHECKPOINT), or it was refused (JLOG_ERR_ILLEGAL_WRITE: not
 * aggressively in a reader). 0: all was well, or the metastore cannot be written (JLOG_ERR_CREATE_META). `jlog-repair`
 * shows what it would do before it does anything, and can take it back. */
JLOG_API(int) jlog_ctx_repair(jlog_ctx *ctx, int aggressive);

/* ---- extensions ---- */

/* The functions below are not in libjlog. */
#define JLOG_HAS_EXTENSIONS 1

typedef enum {
  JLOG_FORMAT_CLASSIC = 0,    /* libjlog's, which its own programs can read and write at the same time */
  JLOG_FORMAT_CHECKSUMMED = 1 /* every byte proved by a checksum, torn told from damaged; for this engine alone */
} jlog_format;

/* Before jlog_ctx_init(): the format of the log it makes. If nothing is said: what the environment variable JLOG_FORMAT
 * says, `classic` or `checksummed`; else classic. An existing log is what it is: opening finds out. -1: an unknown
 * format (JLOG_ERR_NOT_SUPPORTED), or a context that is not new (JLOG_ERR_ILLEGAL_INIT). With anything else in
 * JLOG_FORMAT jlog_ctx_init() fails (JLOG_ERR_NOT_SUPPORTED). A checksummed log for which no safety level was set is
 * JLOG_SAFE: what is written to it is on the disk when jlog_ctx_write() returns. */
JLOG_API(int) jlog_ctx_set_format(jlog_ctx *ctx, jlog_format format);

typedef enum {
  JLOG_DURABILITY_DEFAULT = 0, /* what the log's safety level says */
  JLOG_DURABILITY_PROCESS,     /* the kernel has the message: the death of the process does not take it */
  JLOG_DURABILITY_INTERVAL,    /* the same, and it is on the disk within about that many milliseconds */
  JLOG_DURABILITY_GROUP,       /* on the disk; who syncs waits up to that many milliseconds for other threads */
  JLOG_DURABILITY_SYNC         /* on the disk; threads that write at the same time share syncs */
} jlog_durability;

/* Before jlog_ctx_open_writer(): what the return of jlog_ctx_write() promises. `milliseconds` is for INTERVAL and
 * GROUP. If nothing is said: what the environment variable JLOG_DURABILITY says, `process`, `sync`, `interval:MS` or
 * `group:MS`; if it says nothing, what the log's safety level says. -1: an unknown level (JLOG_ERR_NOT_SUPPORTED), or a
 * context that is not new (JLOG_ERR_ILLEGAL_OPEN). With anything else in JLOG_DURABILITY jlog_ctx_open_writer() fails
 * (JLOG_ERR_NOT_SUPPORTED): a promise that is misspelt cannot be kept. */
JLOG_API(int) jlog_ctx_set_durability(jlog_ctx *ctx, jlog_durability durability, unsigned milliseconds);

/* All that this context has written is on the disk, and where readers see it, when it returns 0; in a context that is
 * not a writer it fails (JLOG_ERR_ILLEGAL_WRITE). After a sync that failed the writer is of no use any more: what it
 * had not synced is not to be relied upon. */
JLOG_API(int) jlog_ctx_sync(jlog_ctx *ctx);

/* The engine's own words for the last error of this context: which file, which byte, what to do. "" if there is none.
 * Lent to the thread until it asks the same context again, or ends. */
JLOG_API(const char *) jlog_ctx_err_detail(jlog_ctx *ctx);

#endif
