/*
 * jlog_private.h: what programs that ship with libjlog look at beyond its public interface.
 *
 * For those programs; a new one has no need of it. Only what stands here is kept where it is.
 */
#ifndef _JLOG_PRIVATE_H
#define _JLOG_PRIVATE_H

#include "jlog.h"
#include "jlog_io.h"

#include <pthread.h>

#define DEFAULT_FILE_MODE 0640
#define DEFAULT_UNIT_LIMIT 4194304 /* 4 MiB */
#define DEFAULT_SAFETY JLOG_ALMOST_SAFE
#define DEFAULT_READ_MESSAGE_TYPE JLOG_READ_METHOD_MMAP

/* First word of every record: this, or in a compressed log the second plus the number of what compresses. */
#define DEFAULT_HDR_MAGIC 0x663A7318
#define DEFAULT_HDR_MAGIC_COMPRESSION 0x15106A00

/* An index has its segment's name and this; a log's path leaves room for it. */
#define INDEX_EXT ".idx"
#define MAXLOGPATHLEN (MAXPATHLEN - (sizeof(INDEX_EXT) + 8))

/* What a context can be used for. */
typedef enum {
  JLOG_NEW = 0,     /* to be made or opened */
  JLOG_INIT = 1,    /* it has made a log */
  JLOG_READ = 2,    /* open as a subscriber */
  JLOG_APPEND = 3,  /* open for writing */
  JLOG_INVALID = 4  /* making or opening failed */
} jlog_mode;

/* The metastore of a classic log, as it lies on the disk. */
struct _jlog_meta_info {
  uint32_t storage_log; /* number of the segment being written */
  uint32_t unit_limit;  /* bytes at which a segment is finished */
  uint32_t safety;
  uint32_t hdr_magic;
};

/* The beginning of a context, to look at and not to touch. `meta`, `pre_commit_buffer_len` and `path` are what programs
 * read, and they are kept true; the others are at their places, and what they hold is not promised. */
struct _jlog_ctx {
  struct _jlog_meta_info *meta; /* never NULL: of the log once it is open, before that of the one to be made */
  pthread_mutex_t write_lock;
  jlog_read_method_type read_method;
  int meta_is_mapped;
  int pre_commit_is_mapped;
  uint8_t multi_process;
  uint8_t pre_commit_buffer_size_specified;
  void *pre_commit_buffer;
  void *pre_commit_pos;
  void *pre_commit_end;
  size_t pre_commit_buffer_len; /* bytes of the file pre_commit, its first word included; 0 where there is none */
  size_t desired_pre_commit_buffer_len;
  uint32_t *pre_commit_pointer;
  struct _jlog_meta_info pre_init;
  jlog_mode context_mode;
  char *path;
  void *engine[1]; /* from here on the engine's own, however much that is: sizeof says nothing */
};

/* The name of a segment: eight hex digits and a NUL, 9 bytes. */
static __inline__ void jlog_private_segment_name(char *name, uint32_t log) {
  int digit;
  for (digit = 7; digit >= 0; digit--, log >>= 4) {
    name[digit] = (char)((log & 15) < 10 ? '0' + (log & 15) : 'a' + (log & 15) - 10);
  }
  name[8] = '\0';
}

/* The path of a segment of a context's log, which is shorter than MAXLOGPATHLEN. */
static __inline__ void jlog_private_segment_path(const char *log_path, char *path, uint32_t log) {
  size_t length = strlen(log_path);
  memcpy(path, log_path, length);
  path[length] = '/';
  jlog_private_segment_name(path + length + 1, log);
}

#define STRLOGID(s, logid) jlog_private_segment_name((s), (logid))
#define STRSETDATAFILE(ctx, file, log) jlog_private_segment_path((ctx)->path, (file), (log))

/* Cuts out of a segment what holds no messages; its index is left as it is, and no longer fits. How many ranges were
 * cut: 0 is a sound segment; -1: failed. */
JLOG_API(int) jlog_repair_datafile(jlog_ctx *ctx, uint32_t log);

/* Tells stderr what is wrong in a segment, and with `verbose` of every message in it. 0: sound. 1: damaged. -1: it
 * cannot be read. */
JLOG_API(int) jlog_inspect_datafile(jlog_ctx *ctx, uint32_t log, int verbose);

/* What the index of a segment says: its last message, and whether it is complete (1) or may grow (0). */
JLOG_API(int) jlog_idx_details(jlog_ctx *ctx, uint32_t log, uint32_t *marker, int *closed);

#endif
