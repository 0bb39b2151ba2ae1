/* Sizes, offsets and values: what a program compiled against libjlog's headers has built in. Included by a C and by a
 * C++ program; each gives STATIC, the language's own assertion at compile time. */
#include <stddef.h>

/* name, value */
#define ENUM_VALUES(V)                                                                                                 \
  V(JLOG_BEGIN, 0) V(JLOG_END, 1)                                                                                      \
  V(JLOG_UNSAFE, 0) V(JLOG_ALMOST_SAFE, 1) V(JLOG_SAFE, 2)                                                             \
  V(JLOG_ERR_SUCCESS, 0) V(JLOG_ERR_ILLEGAL_INIT, 1) V(JLOG_ERR_ILLEGAL_OPEN, 2) V(JLOG_ERR_OPEN, 3)                   \
  V(JLOG_ERR_NOTDIR, 4) V(JLOG_ERR_CREATE_PATHLEN, 5) V(JLOG_ERR_CREATE_EXISTS, 6) V(JLOG_ERR_CREATE_MKDIR, 7)         \
  V(JLOG_ERR_CREATE_META, 8) V(JLOG_ERR_CREATE_PRE_COMMIT, 9) V(JLOG_ERR_LOCK, 10) V(JLOG_ERR_IDX_OPEN, 11)            \
  V(JLOG_ERR_IDX_SEEK, 12) V(JLOG_ERR_IDX_CORRUPT, 13) V(JLOG_ERR_IDX_WRITE, 14) V(JLOG_ERR_IDX_READ, 15)              \
  V(JLOG_ERR_FILE_OPEN, 16) V(JLOG_ERR_FILE_SEEK, 17) V(JLOG_ERR_FILE_CORRUPT, 18) V(JLOG_ERR_FILE_READ, 19)           \
  V(JLOG_ERR_FILE_WRITE, 20) V(JLOG_ERR_META_OPEN, 21) V(JLOG_ERR_PRE_COMMIT_OPEN, 22) V(JLOG_ERR_ILLEGAL_WRITE, 23)   \
  V(JLOG_ERR_ILLEGAL_CHECKPOINT, 24) V(JLOG_ERR_INVALID_SUBSCRIBER, 25) V(JLOG_ERR_ILLEGAL_LOGID, 26)                  \
  V(JLOG_ERR_SUBSCRIBER_EXISTS, 27) V(JLOG_ERR_CHECKPOINT, 28) V(JLOG_ERR_NOT_SUPPORTED, 29)                           \
  V(JLOG_ERR_CLOSE_LOGID, 30)                                                                                          \
  V(JLOG_COMPRESSION_NULL, 0) V(JLOG_COMPRESSION_LZ4, 1)                                                               \
  V(JLOG_READ_METHOD_MMAP, 0) V(JLOG_READ_METHOD_PREAD, 1)                                                             \
  V(JLOG_NEW, 0) V(JLOG_INIT, 1) V(JLOG_READ, 2) V(JLOG_APPEND, 3) V(JLOG_INVALID, 4)                                  \
  V(DEFAULT_FILE_MODE, 0640) V(DEFAULT_UNIT_LIMIT, 4194304) V(DEFAULT_HDR_MAGIC, 0x663A7318)                           \
  V(DEFAULT_HDR_MAGIC_COMPRESSION, 0x15106A00) V(DEFAULT_SAFETY, 1) V(DEFAULT_READ_MESSAGE_TYPE, 0)                    \
  V(MAXLOGPATHLEN, 4083)

/* type, size */
#define TYPE_SIZES(V)                                                                                                  \
  V(jlog_id, 8) V(jlog_message, 48) V(jlog_message_header, 16) V(jlog_message_header_compressed, 20)                   \
  V(jlog_position, 4) V(jlog_safety, 4) V(jlog_err, 4) V(jlog_compression_provider_choice, 4)                          \
  V(jlog_read_method_type, 4) V(jlog_mode, 4) V(jlog_error_func, 8) V(struct _jlog_meta_info, 16) V(u_int32_t, 4)

/* type, field, offset, size */
#define FIELD_PLACES(V)                                                                                                \
  V(jlog_id, log, 0, 4) V(jlog_id, marker, 4, 4)                                                                       \
  V(jlog_message_header, reserved, 0, 4) V(jlog_message_header, tv_sec, 4, 4)                                          \
  V(jlog_message_header, tv_usec, 8, 4) V(jlog_message_header, mlen, 12, 4)                                            \
  V(jlog_message_header_compressed, reserved, 0, 4) V(jlog_message_header_compressed, tv_sec, 4, 4)                    \
  V(jlog_message_header_compressed, tv_usec, 8, 4) V(jlog_message_header_compressed, mlen, 12, 4)                      \
  V(jlog_message_header_compressed, compressed_len, 16, 4)                                                             \
  V(jlog_message, header, 0, 8) V(jlog_message, mess_len, 8, 4) V(jlog_message, mess, 16, 8)                           \
  V(jlog_message, aligned_header, 24, 20)                                                                              \
  V(struct _jlog_meta_info, storage_log, 0, 4) V(struct _jlog_meta_info, unit_limit, 4, 4)                             \
  V(struct _jlog_meta_info, safety, 8, 4) V(struct _jlog_meta_info, hdr_magic, 12, 4)                                  \
  V(struct _jlog_ctx, meta, 0, 8) V(struct _jlog_ctx, write_lock, 8, 40) V(struct _jlog_ctx, read_method, 48, 4)       \
  V(struct _jlog_ctx, meta_is_mapped, 52, 4) V(struct _jlog_ctx, pre_commit_is_mapped, 56, 4)                          \
  V(struct _jlog_ctx, multi_process, 60, 1) V(struct _jlog_ctx, pre_commit_buffer_size_specified, 61, 1)               \
  V(struct _jlog_ctx, pre_commit_buffer, 64, 8) V(struct _jlog_ctx, pre_commit_pos, 72, 8)                             \
  V(struct _jlog_ctx, pre_commit_end, 80, 8) V(struct _jlog_ctx, pre_commit_buffer_len, 88, 8)                         \
  V(struct _jlog_ctx, desired_pre_commit_buffer_len, 96, 8) V(struct _jlog_ctx, pre_commit_pointer, 104, 8)            \
  V(struct _jlog_ctx, pre_init, 112, 16) V(struct _jlog_ctx, context_mode, 128, 4) V(struct _jlog_ctx, path, 136, 8)

#define STATIC_VALUE(name, value) STATIC((long long)(name) == (value), #name);
#define STATIC_SIZE(type, size) STATIC(sizeof(type) == (size), #type);
#define STATIC_FIELD(type, field, offset, size)                                                                        \
  STATIC(offsetof(type, field) == (offset) && sizeof(((type *)0)->field) == (size), #type "." #field);

ENUM_VALUES(STATIC_VALUE)
TYPE_SIZES(STATIC_SIZE)
FIELD_PLACES(STATIC_FIELD)
