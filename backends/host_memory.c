#include "backends/host_memory.h"

#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include "backends/worker_pool.h"

enum { PART = 16 << 20 }; // bytes that one thread fills at a time

int64_t host_memory_available(void) {
    long long kilobytes = -1;
    char line[128];
    FILE *f = fopen("/proc/meminfo", "r");
    if (!f) return -1;
    while (fgets(line, sizeof line, f))
        if (sscanf(line, "MemAvailable: %lld kB", &kilobytes) == 1) break;
    fclose(f);
    return kilobytes < 0 ? -1 : (int64_t)kilobytes * 1024;
}

void *host_memory_map(int64_t bytes, brim_error *err) {
    if (failed(err)) return NULL;
    int64_t available = host_memory_available();
    if (available >= 0 && bytes > available) {
        brim_fail(err, BRIM_MEMORY,
                  "the host has %lld bytes of memory to give, %lld are needed: %lld bytes are "
                  "missing",
                  (long long)available, (long long)bytes, (long long)(bytes - available));
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
    if (at < end) memset(f->memory + at, 0, (size_t)(end - at));
}

void host_memory_fill(void *memory, int64_t bytes, uint32_t pattern, brim_error *err) {
    filling f = {memory, bytes, pattern};
    int parts = (int)((bytes + PART - 1) / PART);
    worker_pool *pool = worker_pool_create(worker_pool_cores(parts < 1 ? 1 : parts), err);
    if (!pool) return;
    worker_pool_run(pool, parts, fill_part, &f);
    worker_pool_free(pool);
}
