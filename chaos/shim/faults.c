/* Loaded before a process (LD_PRELOAD), it does to that process what a small file says, while it runs.
 *
 * FAULTS_CONTROL names the file: eight 64-bit numbers, mapped once. The first four are orders, the other four count how
 * often an order was carried out, so that whoever gave it knows that it came about:
 *
 *   0 the wall clock is off by so many milliseconds       4 times it was asked for while it was
 *   1 so many of the next fsync and fdatasync fail (EIO)  5 of them that did
 *   2 fsync and fdatasync take so many milliseconds more  6 of them that did
 *   3 not 0: the disk is full below FAULTS_FULL           7 writes that found no room (ENOSPC)
 *
 * FAULTS_FULL is a list of absolute folders, separated by colons.
 *
 * What goes through the C library is covered: all files, syncs and clocks of Rust's standard library. What calls the
 * kernel itself is not: the two calls that Qanat makes through rustix, fallocate and renameat2. On a disk that is
 * full by order 3 room can be reserved, therefore, and not be written to.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum { CLOCK_OFF_MS, SYNCS_FAIL, SYNC_DELAY_MS, IS_FULL, CLOCKS_READ, SYNCS_FAILED, SYNCS_DELAYED, WRITES_REFUSED, FIELDS };

static _Atomic int64_t nothing[FIELDS];
static _Atomic int64_t *control = nothing;

static int (*real_clock_gettime)(clockid_t, struct timespec *);
static int (*real_fsync)(int);
static int (*real_fdatasync)(int);
static ssize_t (*real_write)(int, const void *, size_t);
static ssize_t (*real_pwrite64)(int, const void *, size_t, off64_t);
static ssize_t (*real_writev)(int, const struct iovec *, int);
static ssize_t (*real_pwritev64)(int, const struct iovec *, int, off64_t);

#define FIND(name) real_##name = (__typeof__(real_##name))dlsym(RTLD_NEXT, #name)

/* Other libraries begin before this one and may ask for anything. */
static void find(void) {
    FIND(fsync);
    FIND(fdatasync);
    FIND(write);
    FIND(pwrite64);
    FIND(writev);
    FIND(pwritev64);
    FIND(clock_gettime);
}

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("FAULTS_CONTROL");
    int file = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    find();
    if (file < 0)
        return;
    void *mapped = mmap(NULL, sizeof nothing, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (mapped != MAP_FAILED)
        control = mapped;
    close(file);
}

/* The wall clock. */

int clock_gettime(clockid_t clock, struct timespec *now) {
    if (!real_clock_gettime)
        find();
    int failed = real_clock_gettime(clock, now);
    int64_t off_ms = control[CLOCK_OFF_MS];
    if (failed || !off_ms || (clock != CLOCK_REALTIME && clock != CLOCK_REALTIME_COARSE))
        return failed;
    control[CLOCKS_READ]++;
    int64_t ns = now->tv_nsec + off_ms % 1000 * 1000000;
    now->tv_sec += off_ms / 1000 + (ns < 0 ? -1 : ns / 1000000000);
    now->tv_nsec = ns < 0 ? ns + 1000000000 : ns % 1000000000;
    return 0;
}

time_t time(time_t *out) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (out)
        *out = now.tv_sec;
    return now.tv_sec;
}

int gettimeofday(struct timeval *restrict out, void *restrict zone) {
    struct timespec now;
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &now);
    out->tv_sec = now.tv_sec;
    out->tv_usec = now.tv_nsec / 1000;
    return 0;
}

/* Syncs. */

static int sync_with(int (*real)(int), int file) {
    int64_t delay_ms = control[SYNC_DELAY_MS];
    if (delay_ms > 0) {
        struct timespec pause = {delay_ms / 1000, delay_ms % 1000 * 1000000};
        nanosleep(&pause, NULL);
        control[SYNCS_DELAYED]++;
    }
    int64_t left = control[SYNCS_FAIL];
    while (left > 0) {
        if (atomic_compare_exchange_weak(&control[SYNCS_FAIL], &left, left - 1)) {
            control[SYNCS_FAILED]++;
            errno = EIO;
            return -1;
        }
    }
    return real(file);
}

int fsync(int file) { return sync_with(real_fsync, file); }
int fdatasync(int file) { return sync_with(real_fdatasync, file); }

/* Room. */

static int is_full(int file) {
    if (!control[IS_FULL])
        return 0;
    const char *folder = getenv("FAULTS_FULL");
    char link[32], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t length = readlink(link, path, sizeof path);
    while (folder && length > 0) {
        size_t part = strcspn(folder, ":");
        if (part > 0 && part < (size_t)length && !strncmp(path, folder, part) && path[part] == '/') {
            control[WRITES_REFUSED]++;
            errno = ENOSPC;
            return 1;
        }
        folder = folder[part] ? folder + part + 1 : NULL;
    }
    return 0;
}

ssize_t write(int file, const void *bytes, size_t count) {
    return is_full(file) ? -1 : real_write(file, bytes, count);
}

ssize_t pwrite64(int file, const void *bytes, size_t count, off64_t at) {
    return is_full(file) ? -1 : real_pwrite64(file, bytes, count, at);
}

ssize_t pwrite(int file, const void *bytes, size_t count, off_t at) { return pwrite64(file, bytes, count, at); }

ssize_t writev(int file, const struct iovec *parts, int count) {
    return is_full(file) ? -1 : real_writev(file, parts, count);
}

ssize_t pwritev64(int file, const struct iovec *parts, int count, off64_t at) {
    return is_full(file) ? -1 : real_pwritev64(file, parts, count, at);
}

ssize_t pwritev(int file, const struct iovec *parts, int count, off_t at) {
    return pwritev64(file, parts, count, at);
}
