// Whole gzip files unpacked in memory.
#ifndef BRIM_CORE_GUNZIP_H
#define BRIM_CORE_GUNZIP_H

#include <stdbool.h>
#include <stddef.h>
#include "core/error.h"

// True if the bytes begin as a gzip file does.
bool gunzip_detect(const unsigned char *data, size_t size);

// Unpacks all members of a gzip file, whose lengths and checksums are verified. Returns the text on
// the heap and its length. NULL, with a text that names path, where the data is damaged, ends
// early, or memory is short.
unsigned char *gunzip(const unsigned char *data, size_t size, const char *path, size_t *length,
                      brim_error *err);

#endif
