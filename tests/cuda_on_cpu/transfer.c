// Copies and fills, on streams. Both sides are touched when their turn comes, and not before.
#include "internal.h"

#include <stdlib.h>
#include <string.h>

typedef struct transfer {
    uintptr_t to, from;
    size_t bytes;
    unsigned pattern; // of a fill
} transfer;

static bool in_memory(uintptr_t begin, size_t bytes, bool host) {
    const allocation *a = allocation_of(begin, bytes);
    return a && a->host == host;
}

static CUresult add(call_scope *scope, CUstream handle, cuda_on_cpu_kind kind, transfer what,
                    work_function *run) {
    object *stream = object_find(scope, OBJECT_STREAM, handle);
    if (!stream) return CUDA_ERROR_INVALID_HANDLE;
    CUresult status = in_context(scope, stream);
    if (status) return status;
    transfer *own = malloc(sizeof *own);
    *own = what;
    return stream_add(scope, stream, kind, NULL, run, own);
}

// One byte at a time in either direction would do as well: ranges that overlap are refused.
static void run_copy(void *data) {
    const transfer *t = data;
    image_window window;
    if (access_check(t->from, t->bytes, false, "the source", &window) &&
        access_check(t->to, t->bytes, true, "the target", &window))
        memcpy((void *)t->to, (const void *)t->from, t->bytes);
}

static void run_fill(void *data) {
    const transfer *t = data;
    image_window window;
    if (!access_check(t->to, t->bytes, true, "the target", &window)) return;
    for (size_t at = 0; at < t->bytes; at += sizeof t->pattern)
        memcpy((void *)(t->to + at), &t->pattern, sizeof t->pattern);
}

typedef struct copy_sides {
    bool from_host, to_host;
} copy_sides;

static CUresult copy(call_scope *scope, transfer t, copy_sides sides, CUstream stream) {
    if (!t.bytes || !in_memory(t.from, t.bytes, sides.from_host) ||
        !in_memory(t.to, t.bytes, sides.to_host)) {
        bool from = in_memory(t.from, t.bytes, sides.from_host);
        bool host = from ? sides.to_host : sides.from_host;
        cuda_on_cpu_complain(scope->name, "the %zu bytes of its %s at %p are not all in %s",
                             t.bytes, from ? "target" : "source", (void *)(from ? t.to : t.from),
                             host ? "one pinned allocation" : "one allocation of device memory");
        return CUDA_ERROR_INVALID_VALUE;
    }
    if (t.from < t.to + t.bytes && t.to < t.from + t.bytes) {
        cuda_on_cpu_complain(scope->name, "source and target overlap");
        return CUDA_ERROR_INVALID_VALUE;
    }
    return add(scope, stream, WORK_COPY, t, run_copy);
}

// ---- calls --------------------------------------------------------------------------------------

CUDA_ON_CPU_API CUresult cuMemcpyHtoDAsync_v2(CUdeviceptr to, const void *from, size_t bytes,
                                              CUstream stream) {
    CALL("cuMemcpyHtoDAsync", "%#llx, %p, %zu, %p", (unsigned long long)to, from, bytes,
         (void *)stream);
    RETURN(copy(&scope, (transfer){(uintptr_t)to, (uintptr_t)from, bytes, 0},
                (copy_sides){.from_host = true}, stream));
}

CUDA_ON_CPU_API CUresult cuMemcpyDtoHAsync_v2(void *to, CUdeviceptr from, size_t bytes,
                                              CUstream stream) {
    CALL("cuMemcpyDtoHAsync", "%p, %#llx, %zu, %p", to, (unsigned long long)from, bytes,
         (void *)stream);
    RETURN(copy(&scope, (transfer){(uintptr_t)to, (uintptr_t)from, bytes, 0},
                (copy_sides){.to_host = true}, stream));
}

CUDA_ON_CPU_API CUresult cuMemcpyDtoDAsync_v2(CUdeviceptr to, CUdeviceptr from, size_t bytes,
                                              CUstream stream) {
    CALL("cuMemcpyDtoDAsync", "%#llx, %#llx, %zu, %p", (unsigned long long)to,
         (unsigned long long)from, bytes, (void *)stream);
    RETURN(copy(&scope, (transfer){(uintptr_t)to, (uintptr_t)from, bytes, 0}, (copy_sides){0},
                stream));
}

CUDA_ON_CPU_API CUresult cuMemsetD32Async(CUdeviceptr to, unsigned pattern, size_t count,
                                          CUstream stream) {
    CALL("cuMemsetD32Async", "%#llx, %#x, %zu, %p", (unsigned long long)to, pattern, count,
         (void *)stream);
    size_t bytes = count * sizeof pattern;
    if (to % sizeof pattern != 0)
        REFUSE(CUDA_ERROR_INVALID_VALUE, "%#llx is no multiple of 4", (unsigned long long)to);
    if (!count || !in_memory((uintptr_t)to, bytes, false))
        REFUSE(CUDA_ERROR_INVALID_VALUE, "%zu bytes at %#llx are not all in one allocation", bytes,
               (unsigned long long)to);
    transfer t = {.to = (uintptr_t)to, .bytes = bytes, .pattern = pattern};
    RETURN(add(&scope, stream, WORK_FILL, t, run_fill));
}
