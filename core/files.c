#define _POSIX_C_SOURCE 200809L
#include "core/files.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include "core/alloc.h"
#include "core/lock.h"
#include "core/philox.h"
#include "core/size.h"
#include "core/strbuf.h"

struct file_writer {
    char *path, *temporary;
    int descriptor;
    uint64_t size;
};

char *path_join(const char *directory, const char *name, brim_error *err) {
    strbuf path = {.err = err};
    size_t length = strlen(directory);
    const char *slash = length && directory[length - 1] != '/' ? "/" : "";
    strbuf_printf(&path, "%s%s%s", directory, slash, name);
    return strbuf_take(&path);
}

char *path_parent(const char *path, brim_error *err) {
    size_t length = strlen(path);
    while (length > 1 && path[length - 1] == '/') length--; // "a/b/" is b in a
    while (length > 0 && path[length - 1] != '/') length--;
    if (length == 0) return brim_strdup(".", err);
    while (length > 1 && path[length - 1] == '/') length--;
    strbuf parent = {.err = err};
    strbuf_append(&parent, path, length);
    return strbuf_take(&parent);
}

char *path_temporary(const char *path, const char *suffix, brim_error *err) {
    size_t length = strlen(path);
    while (length > 1 && path[length - 1] == '/') length--;
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    // The address of a local variable differs between threads that read the same time.
    uint64_t who = (uint64_t)getpid() ^ (uint64_t)(uintptr_t)&now << 16;
    uint32_t digits = philox_at((uint64_t)now.tv_sec, (uint64_t)now.tv_nsec, who).v[0];
    strbuf name = {.err = err};
    strbuf_append(&name, path, length);
    strbuf_printf(&name, ".brim-%s-%08x", suffix, (unsigned)digits);
    return strbuf_take(&name);
}

static void free_writer(file_writer *w) {
    free(w->path);
    free(w->temporary);
    free(w);
}

// Opens a file that did not exist before, under a temporary name, and locks it.
static void open_temporary(file_writer *w, brim_error *err) {
    enum { TRIES = 100 };
    for (int i = 0; i < TRIES; i++) {
        free(w->temporary);
        w->temporary = path_temporary(w->path, "tmp", err);
        if (failed(err)) return;
        w->descriptor = open(w->temporary, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        if (w->descriptor < 0 && errno != EEXIST) break;
        if (w->descriptor < 0) continue;
        if (lock_new(w->descriptor, AT_FDCWD, w->temporary)) return;
        close(w->descriptor);
        w->descriptor = -1;
    }
    brim_fail(err, BRIM_IO, "%s cannot be created: %s", w->temporary, strerror(errno));
}

file_writer *file_create(const char *path, brim_error *err) {
    file_writer *w = brim_calloc(sizeof *w, err);
    if (!w) return NULL;
    w->descriptor = -1;
    w->path = brim_strdup(path, err);
    if (w->path) open_temporary(w, err);
    if (!failed(err)) return w;
    free_writer(w);
    return NULL;
}

static bool report_write(const file_writer *w, const char *reason, brim_error *err) {
    brim_fail(err, BRIM_IO, "%s cannot be written at byte %llu: %s", w->temporary,
              (unsigned long long)w->size, reason);
    return false;
}

bool file_write(file_writer *w, const void *data, size_t size, brim_error *err) {
    if (failed(err) || !w) return false;
    const char *bytes = data;
    while (size > 0) {
        ssize_t count = write(w->descriptor, bytes, size);
        if (count < 0 && errno == EINTR) continue;
        if (count < 0) return report_write(w, strerror(errno), err);
        if (count == 0) return report_write(w, "the system takes no more", err);
        bytes += count;
        size -= (size_t)count;
        w->size += (uint64_t)count;
    }
    return true;
}

bool file_rewrite(file_writer *w, uint64_t offset, const void *data, size_t size, brim_error *err) {
    if (failed(err) || !w) return false;
    if (offset > w->size || size > w->size - offset) {
        return report_write(w, "bytes that were not there yet were to be replaced", err);
    }
    const char *bytes = data;
    while (size > 0) {
        ssize_t count = pwrite(w->descriptor, bytes, size, (off_t)offset);
        if (count < 0 && errno == EINTR) continue;
        if (count < 0) return report_write(w, strerror(errno), err);
        if (count == 0) return report_write(w, "the system takes no more", err);
        bytes += count;
        size -= (size_t)count;
        offset += (uint64_t)count;
    }
    return true;
}

uint64_t file_size(const file_writer *w) {
    return w ? w->size : 0;
}

const char *file_path(const file_writer *w) {
    return w ? w->path : "";
}

int sync_descriptor(int descriptor) {
    int result;
    do result = fsync(descriptor);
    while (result != 0 && errno == EINTR);
    return result;
}

// Some file systems report a full disk no sooner than here.
static void close_synced(file_writer *w, brim_error *err) {
    if (!failed(err) && sync_descriptor(w->descriptor) != 0) report_write(w, strerror(errno), err);
    int result = close(w->descriptor);
    if (result != 0 && errno != EINTR) report_write(w, strerror(errno), err);
}

bool file_commit(file_writer *w, brim_error *err) {
    if (!w) return false;
    int lock = fcntl(w->descriptor, F_DUPFD_CLOEXEC, 0); // until the file has its name
    close_synced(w, err);
    if (!failed(err) && rename(w->temporary, w->path) != 0) {
        brim_fail(err, BRIM_IO, "%s cannot be renamed to %s: %s", w->temporary, w->path,
                  strerror(errno));
    }
    if (failed(err)) {
        unlink(w->temporary);
    } else {
        char *parent = path_parent(w->path, err);
        if (parent) folder_sync(parent, err);
        free(parent);
    }
    if (lock >= 0) close(lock);
    free_writer(w);
    return !failed(err);
}

void file_discard(file_writer *w) {
    if (!w) return;
    close(w->descriptor);
    unlink(w->temporary);
    free_writer(w);
}

bool file_replace(const char *path, const void *data, size_t size, brim_error *err) {
    file_writer *w = file_create(path, err);
    file_write(w, data, size, err);
    return file_commit(w, err);
}

static void read_descriptor(int descriptor, const char *path, size_t max, strbuf *text,
                            brim_error *err) {
    char part[1 << 14];
    for (;;) {
        ssize_t count = read(descriptor, part, sizeof part);
        if (count < 0 && errno == EINTR) continue;
        if (count < 0) brim_fail(err, BRIM_IO, "%s cannot be read: %s", path, strerror(errno));
        if (count <= 0 || failed(err)) return;
        strbuf_append(text, part, (size_t)count);
        if (text->length > max) {
            brim_fail(err, BRIM_FORMAT, "%s has more than the %zu bytes that such a file may have",
                      path, max);
        }
    }
}

char *file_read(const char *path, size_t max, size_t *size, brim_error *err) {
    if (failed(err)) return NULL;
    // O_NONBLOCK: opening a pipe would wait for its other end.
    int descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (descriptor < 0) {
        brim_fail(err, BRIM_IO, "%s cannot be opened: %s", path, strerror(errno));
        return NULL;
    }
    strbuf text = {.err = err};
    read_descriptor(descriptor, path, max, &text, err);
    close(descriptor);
    if (size) *size = text.length;
    return strbuf_take(&text);
}
