// Compiled kernels on disk, found again by everything that they follow from: source, options,
// device, driver.
//
//   1. kernel_cache *cache = kernel_cache_open(directory, err);     NULL: the user's; "": none
//   2. kernel_key key = {.part = {source, options, device, driver}, .parts = 4};
//   3. if (!kernel_cache_get(cache, &key, &data, &bytes)) ...compile, and
//      kernel_cache_put(cache, &key, data, bytes);
//   4. kernel_cache_close(cache);
//
// An entry holds its whole key, so that two keys of the same hash never meet, and a checksum: a
// damaged entry is a missing one, and is written again. Entries appear whole (written under another
// name, then renamed), so processes may share a directory. The directory belongs to the user alone
// (0700), and nothing is read or written through a symbolic link in it. It does not grow for ever:
// where entries have more than KERNEL_CACHE_BYTES, those that were used longest ago are removed (by
// the times of the files, to a day).
#ifndef BRIM_BACKENDS_KERNEL_CACHE_H
#define BRIM_BACKENDS_KERNEL_CACHE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "core/error.h"

enum { KERNEL_KEY_PARTS = 12, KERNEL_CACHE_BYTES = 512 << 20 };
typedef struct kernel_key {
    const char *part[KERNEL_KEY_PARTS]; // texts; their boundaries count
    int parts;
} kernel_key;

typedef struct kernel_cache kernel_cache;

// A cache that keeps nothing (not an error) where directory is "", or where it is NULL and the user
// has no usable directory: then kernel_cache_warning tells why. A directory that is named and
// unusable is an error. NULL only with an error.
kernel_cache *kernel_cache_open(const char *directory, brim_error *err);
void kernel_cache_close(kernel_cache *cache);

// Where entries are kept; "" for a cache that keeps nothing.
const char *kernel_cache_directory(const kernel_cache *cache);

// Of the directory and the entries that were left alone since somebody else might have written
// them, the first, in words; "" where there was none.
const char *kernel_cache_warning(const kernel_cache *cache);

// True with the entry's data, which the caller frees with free(); false where there is none, or a
// damaged one.
bool kernel_cache_get(kernel_cache *cache, const kernel_key *key, void **data, size_t *bytes);

// Writes an entry. A disk that is full or read-only only costs compiling again next time: that is
// no error.
void kernel_cache_put(kernel_cache *cache, const kernel_key *key, const void *data, size_t bytes);

// Removes what killed processes left half-written, and, where entries have more than `limit` bytes,
// the oldest until an eighth of that is free. kernel_cache_put does it by itself.
void kernel_cache_trim(kernel_cache *cache, uint64_t limit);

#endif
