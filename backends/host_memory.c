#include "backends/host_memory.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include "backends/worker_pool.h"

enum { PART = 16 << 20 }; // bytes that one thread fills at a time

// The number that follows `name` at the start of a line of a file; -1 where there is none.
static int64_t find_number(const char *path, const char *name) {
    FILE *file = fopen(path, "re");
    char line[256];
    long long number = -1;
    bool found = false;
    while (file && !found && fgets(line, sizeof line, file)) {
        found = strncmp(line, name, strlen(name)) == 0 &&
                sscanf(line + strlen(name), "%lld", &number) == 1;
    }
    if (file) fclose(file);
    return found ? number : -1;
}

static int64_t available(const char *meminfo) {
    int64_t kib = find_number(meminfo, "MemAvailable:");
    return kib < 0 ? -1 : kib * 1024;
}

static int64_t of_group(const char *group, const char *file, const char *name) {
    char path[256];
    snprintf(path, sizeof path, "%s/%s", group, file);
    return find_number(path, name);
}

int64_t host_memory_free(const char *meminfo, const char *group) {
    int64_t all = available(meminfo), limit = of_group(group, "memory.max", "");
    int64_t used = of_group(group, "memory.current", "");
    int64_t cached = of_group(group, "memory.stat", "file ");
    if (limit < 0 || used < 0) return all;
    if (cached > 0 && cached < used) used -= cached; // is given up when memory is short
    int64_t left = limit > used ? limit - used : 0;
    return all < 0 || left < all ? left : all;
}

int64_t host_memory_available(void) {
    return host_memory_free("/proc/meminfo", "/sys/fs/cgroup");
}

void *host_memory_map(int64_t bytes, brim_error *err) {
    if (failed(err)) return NULL;
    int64_t there = host_memory_available();
    if (there >= 0 && bytes > there) {
        brim_fail(err, BRIM_MEMORY,
                  "the host has %lld bytes of memory to give, %lld are needed: %lld bytes are "
                  "missing",
                  (long long)there, (long long)bytes, (long long)(bytes - there));
        return NULL;
    }
    void *memory =
        mmap(NULL, (size_t)bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) {
        brim_fail(err, BRIM_MEMORY, "the system does not give %lld bytes of host memory",
                  (long long)bytes);
        return NULL;
    }
    madvise(memory, (size_t)bytes, MADV_HUGEPAGE); // only speed depends on it
    return memory;
}

void host_memory_unmap(void *memory, int64_t bytes) {
    if (memory) munmap(memory, (size_t)bytes);
}

typedef struct filling {
    char *memory;
    int64_t bytes;
    uint32_t pattern;
} filling;

static void fill_part(void *context, int item) {
    const filling *f = context;
    int64_t at = (int64_t)item * PART, end = f->bytes - at < PART ? f->bytes : at + PART;
    for (; at + (int64_t)sizeof f->pattern <= end; at += sizeof f->pattern)
        memcpy(f->memory + at, &f->pattern, sizeof f->pattern);
    memset(f->memory + at, 0, (size_t)(end - at));
}

void host_memory_fill(void *memory, int64_t bytes, uint32_t pattern, brim_error *err) {
    filling f = {memory, bytes, pattern};
    int parts = (int)((bytes + PART - 1) / PART);
    worker_pool *pool = worker_pool_create(worker_pool_cores(parts), err);
    if (!pool) return;
    worker_pool_run(pool, parts, fill_part, &f);
    worker_pool_free(pool);
}
