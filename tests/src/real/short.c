/* Transfers that are shorter than asked for, and calls that are interrupted: preloaded in front of the C library. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/types.h>

static unsigned long state, struck;

__attribute__((constructor)) static void begin(void) {
    const char *seed = getenv("SHORT_SEED");
    state = seed ? strtoul(seed, 0, 10) * 2654435761UL + 1 : 1;
}

__attribute__((destructor)) static void end(void) {
    const char *path = getenv("SHORT_COUNTED");
    FILE *file = path ? fopen(path, "w") : 0;
    if (file) {
        fprintf(file, "%lu\n", struck);
        fclose(file);
    }
}

static unsigned long roll(void) {
    state = state * 6364136223846793005UL + 1442695040888963407UL;
    return state >> 33;
}

/* 0: as asked; 1: interrupted; otherwise shorter. */
static int trouble(void) {
    int what = roll() % 5;
    if (what == 1 || what == 2) struck++;
    return what <= 2 ? what : 0;
}

#define NEXT(name) __typeof__(&name) next = (__typeof__(&name))dlsym(RTLD_NEXT, #name)
#define INTERRUPTED return errno = EINTR, -1

ssize_t pwrite64(int fd, const void *bytes, size_t len, off64_t at);
ssize_t pread64(int fd, void *bytes, size_t len, off64_t at);
int fdatasync(int fd);
int fsync(int fd);
int ftruncate64(int fd, off64_t len);

ssize_t pwrite64(int fd, const void *bytes, size_t len, off64_t at) {
    NEXT(pwrite64);
    int what = trouble();
    if (what == 1) INTERRUPTED;
    return next(fd, bytes, what == 2 && len > 1 ? 1 + roll() % (len - 1) : len, at);
}

ssize_t pread64(int fd, void *bytes, size_t len, off64_t at) {
    NEXT(pread64);
    int what = trouble();
    if (what == 1) INTERRUPTED;
    return next(fd, bytes, what == 2 && len > 1 ? 1 + roll() % (len - 1) : len, at);
}

int fdatasync(int fd) {
    NEXT(fdatasync);
    if (trouble() == 1) INTERRUPTED;
    return next(fd);
}

int fsync(int fd) {
    NEXT(fsync);
    if (trouble() == 1) INTERRUPTED;
    return next(fd);
}

int ftruncate64(int fd, off64_t len) {
    NEXT(ftruncate64);
    if (trouble() == 1) INTERRUPTED;
    return next(fd, len);
}
