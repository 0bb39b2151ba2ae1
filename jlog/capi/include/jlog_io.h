/*
 * jlog_io.h: the file primitives that the log is written with.
 *
 * A jlog_file is shared: opening a file that this process has open already, by whatever name, gives the same handle
 * again, and it is closed when everybody who opened it has closed it. Transfers are whole: interrupted and short ones
 * are gone on with. Functions return 1, or 0 after a failure, which errno names. Offsets and lengths are bytes.
 */
#ifndef _JLOG_IO_H_
#define _JLOG_IO_H_

#include <stddef.h>
#include <sys/types.h>
#include <sys/uio.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct _jlog_file jlog_file;

/* Opens for reading and writing. Of `flags` O_CREAT and O_EXCL count; `mode` is for a file that is made. With
 * `multi_process` locks keep other processes out as well; whoever opens the file first decides that. NULL: failed. */
jlog_file *jlog_file_open(const char *path, int flags, int mode, int multi_process);

/* Gives back what one jlog_file_open() gave. */
int jlog_file_close(jlog_file *f);

/* One exclusive lock on the whole file, waited for, against other threads and processes; it does not nest. */
int jlog_file_lock(jlog_file *f);
int jlog_file_unlock(jlog_file *f);

/* All of `nbyte` bytes at `offset`; the end of the file within them is a failure. */
int jlog_file_pread(jlog_file *f, void *buf, size_t nbyte, off_t offset);

/* All of `nbyte` bytes at `offset`, into the kernel; jlog_file_sync() puts them on the disk. */
int jlog_file_pwrite(jlog_file *f, const void *buf, size_t nbyte, off_t offset);

/* All bytes of all the pieces, one behind the other from `offset` on. The second function is told how many bytes that
 * is, and fails if it is not that many. */
int jlog_file_pwritev(jlog_file *f, const struct iovec *vec, int iov_count, off_t offset);
int jlog_file_pwritev_verify_return_value(jlog_file *f, const struct iovec *vecs, int iov_count, off_t offset,
                                          size_t expected_length);

/* The file's bytes and its length are on the disk. Its name is its directory's business. */
int jlog_file_sync(jlog_file *f);

/* Maps the whole file, shared; the caller unmaps it with munmap(). An empty file cannot be mapped. A file that somebody
 * truncates while it is mapped kills who touches what is gone (SIGBUS). */
int jlog_file_map_rdwr(jlog_file *f, void **base, size_t *len);
int jlog_file_map_read(jlog_file *f, void **base, size_t *len);

/* The size, or -1. */
off_t jlog_file_size(jlog_file *f);

/* Makes the file `len` bytes long: cuts it, or lengthens it with zeros. */
int jlog_file_truncate(jlog_file *f, off_t len);

#ifdef __cplusplus
}
#endif

#endif
