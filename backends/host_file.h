// A device's file space: a file without a name, which is gone when the process is.
#ifndef BRIM_BACKENDS_HOST_FILE_H
#define BRIM_BACKENDS_HOST_FILE_H

#include <stdint.h>
#include "core/error.h"

typedef struct host_file {
    int descriptor; // -1: none
    int64_t bytes;
    char *directory; // for messages
} host_file;

// All of its bytes are taken on the disk, so that a full one is found now; the error names the
// directory, what is wanted and what is free. Nothing is opened where bytes is 0.
brim_status host_file_open(host_file *f, const char *directory, int64_t bytes, brim_error *err);
void host_file_close(host_file *f);

brim_status host_file_write(const host_file *f, int64_t offset, const void *data, int64_t bytes,
                            brim_error *err);
brim_status host_file_read(const host_file *f, int64_t offset, void *data, int64_t bytes,
                           brim_error *err);

#endif
