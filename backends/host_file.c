#include "backends/host_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>
#include "core/alloc.h"
#include "core/files.h"

enum { MODE = 0600, MOST_AT_ONCE = 1 << 30 };

// ---- opening ------------------------------------------------------------------------------------

static int open_nameless(const char *directory) {
    int descriptor = open(directory, O_TMPFILE | O_RDWR | O_EXCL | O_CLOEXEC, MODE);
    if (descriptor >= 0) return descriptor;
    int reason = errno;
    if (reason != EOPNOTSUPP && reason != EISDIR && reason != EINVAL) return -1;
    // This file system has only files with names.
    char *path = path_join(directory, "brim-XXXXXX", &(brim_error){0});
    if (!path) return -1;
    descriptor = mkostemp(path, O_CLOEXEC);
    if (descriptor >= 0) unlink(path);
    reason = errno;
    free(path);
    errno = reason;
    return descriptor;
}

static long long free_bytes(int descriptor) {
    struct statvfs disk;
    if (fstatvfs(descriptor, &disk) != 0) return -1;
    return (long long)disk.f_bavail * (long long)disk.f_frsize;
}

static void take_bytes(const host_file *f, brim_error *err) {
    long long there = free_bytes(f->descriptor);
    int status;
    do status = posix_fallocate(f->descriptor, 0, f->bytes);
    while (status == EINTR);
    if (status == ENOSPC || status == EFBIG || status == EDQUOT)
        brim_fail(err, BRIM_IO,
                  "a file of %lld bytes does not fit into \"%s\", where %lld bytes are free: %s",
                  (long long)f->bytes, f->directory, there, strerror(status));
    else if (status)
        brim_fail(err, BRIM_IO, "taking %lld bytes for a file in \"%s\": %s", (long long)f->bytes,
                  f->directory, strerror(status));
}

brim_status host_file_open(host_file *f, const char *directory, int64_t bytes, brim_error *err) {
    *f = (host_file){.descriptor = -1, .bytes = bytes};
    if (failed(err) || bytes == 0) return err->status;
    if (!directory || !*directory)
        return brim_fail(err, BRIM_ARGUMENT,
                         "a file of %lld bytes is wanted and no directory is "
                         "named for it",
                         (long long)bytes);
    f->directory = brim_strdup(directory, err);
    if (!f->directory) return err->status;
    f->descriptor = open_nameless(directory);
    if (f->descriptor < 0)
        brim_fail(err, BRIM_IO, "no file can be made in \"%s\": %s", directory, strerror(errno));
    else
        take_bytes(f, err);
    if (failed(err)) host_file_close(f);
    return err->status;
}

void host_file_close(host_file *f) {
    if (f->directory && f->descriptor >= 0) close(f->descriptor);
    free(f->directory);
    *f = (host_file){.descriptor = -1};
}

// ---- using --------------------------------------------------------------------------------------

static bool inside(const host_file *f, int64_t offset, int64_t bytes, brim_error *err) {
    if (offset >= 0 && bytes >= 0 && offset <= f->bytes && bytes <= f->bytes - offset) return true;
    brim_fail(err, BRIM_ARGUMENT, "%lld bytes at %lld are outside the file space of %lld",
              (long long)bytes, (long long)offset, (long long)f->bytes);
    return false;
}

static brim_status transfer(const host_file *f, int64_t offset, char *data, int64_t bytes,
                            bool writes, brim_error *err) {
    if (failed(err) || !inside(f, offset, bytes, err)) return err->status;
    while (bytes > 0) {
        size_t part = (size_t)(bytes < MOST_AT_ONCE ? bytes : MOST_AT_ONCE);
        ssize_t done = writes ? pwrite(f->descriptor, data, part, offset)
                              : pread(f->descriptor, data, part, offset);
        if (done < 0 && errno == EINTR) continue;
        if (done <= 0)
            return brim_fail(err, BRIM_IO, "%s %lld bytes at %lld of the file in \"%s\": %s",
                             writes ? "writing" : "reading", (long long)bytes, (long long)offset,
                             f->directory, done < 0 ? strerror(errno) : "it is shorter");
        data += done, offset += done, bytes -= done;
    }
    return BRIM_OK;
}

brim_status host_file_write(const host_file *f, int64_t offset, const void *data, int64_t bytes,
                            brim_error *err) {
    return transfer(f, offset, (char *)data, bytes, true, err);
}

brim_status host_file_read(const host_file *f, int64_t offset, void *data, int64_t bytes,
                           brim_error *err) {
    return transfer(f, offset, data, bytes, false, err);
}
