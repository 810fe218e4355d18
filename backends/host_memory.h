// Memory of the host for a device's host space.
#ifndef BRIM_BACKENDS_HOST_MEMORY_H
#define BRIM_BACKENDS_HOST_MEMORY_H

#include <stdint.h>
#include "core/error.h"

// Whole pages; NULL, with the missing bytes named, where the system has less memory than that to
// give. Nothing is touched yet.
void *host_memory_map(int64_t bytes, brim_error *err);
void host_memory_unmap(void *memory, int64_t bytes);

// Writes every byte, on all cores: systems give memory at the first touch, and that shall be before
// step 1. Bytes behind the last whole word are 0.
void host_memory_fill(void *memory, int64_t bytes, uint32_t pattern, brim_error *err);

// What the system could give now without writing to its swap space, in a container within its
// limit; -1 where it does not tell.
int64_t host_memory_available(void);
// The same by a file like /proc/meminfo, and the files of a folder like /sys/fs/cgroup.
int64_t host_memory_free(const char *meminfo, const char *group);

#endif
