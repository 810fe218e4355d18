#define _POSIX_C_SOURCE 200809L
#include "core/mapfile.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static const unsigned char nothing[1];

static bool map_descriptor(mapfile *file, int descriptor, const char *path, brim_error *err) {
    struct stat status;
    if (fstat(descriptor, &status) != 0) {
        brim_fail(err, BRIM_IO, "%s: its size cannot be found: %s", path, strerror(errno));
    } else if (S_ISDIR(status.st_mode)) {
        brim_fail(err, BRIM_IO, "%s is a directory, expected a file", path);
    } else if (!S_ISREG(status.st_mode)) {
        brim_fail(err, BRIM_IO, "%s is not a regular file", path);
    } else if (status.st_size > PTRDIFF_MAX) {
        brim_fail(err, BRIM_IO, "%s is larger than memory can address", path);
    } else if (status.st_size == 0) {
        *file = (mapfile){nothing, 0};
    } else {
        size_t size = (size_t)status.st_size;
        void *data = mmap(NULL, size, PROT_READ, MAP_PRIVATE, descriptor, 0);
        if (data != MAP_FAILED)
            *file = (mapfile){data, size};
        else
            brim_fail(err, BRIM_IO, "%s cannot be mapped: %s", path, strerror(errno));
    }
    return !failed(err);
}

bool mapfile_open(mapfile *file, const char *path, brim_error *err) {
    if (failed(err)) return false;
    *file = (mapfile){0};
    // O_NONBLOCK: opening a pipe would wait for its other end.
    int descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (descriptor < 0) {
        brim_fail(err, BRIM_IO, "%s cannot be opened: %s", path, strerror(errno));
        return false;
    }
    bool mapped = map_descriptor(file, descriptor, path, err);
    close(descriptor);
    return mapped;
}

void mapfile_close(mapfile *file) {
    if (file->size) munmap((void *)file->data, file->size);
    *file = (mapfile){0};
}
