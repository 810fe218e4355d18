// All memory of a device, taken once: the device space, and the staging area.
#include <string.h>
#include "backends/cuda/device.h"
#include "core/size.h"

enum { NAN_PATTERN = 0x7fc0dead, WORD = 4 };

// ---- taking -------------------------------------------------------------------------------------

// Writes every byte: drivers allocate at the first touch, and that shall be before step 1.
static bool touch(backend_device *d, brim_error *err) {
    cuda_memory *m = &d->memory;
    unsigned pattern = d->settings.poison ? NAN_PATTERN : 0;
    CUstream stream = d->queue[QUEUE_COMPUTE];
    if (!cuda_check(
            &d->cu,
            d->cu.memset_d32_async(m->base, pattern, (size_t)m->device_bytes / WORD, stream),
            "cuMemsetD32Async", err))
        return false;
    for (int64_t at = 0; at + WORD <= m->host_bytes; at += WORD)
        memcpy((char *)m->host + at, &pattern, WORD);
    return cuda_check(&d->cu, d->cu.stream_synchronize(stream), "cuStreamSynchronize", err);
}

static bool take(backend_device *d, brim_error *err) {
    cuda_memory *m = &d->memory;
    return cuda_check(&d->cu, d->cu.mem_alloc(&m->base, (size_t)m->device_bytes), "cuMemAlloc",
                      err) &&
           cuda_check(
               &d->cu,
               d->cu.mem_host_alloc(&m->host, (size_t)m->host_bytes, CU_MEMHOSTALLOC_PORTABLE),
               "cuMemHostAlloc", err) &&
           touch(d, err);
}

brim_status cuda_reserve(backend_device *d, int64_t device_bytes, int64_t host_bytes,
                         brim_error *err) {
    if (failed(err)) return err->status;
    cuda_memory *m = &d->memory;
    const device_traits *t = &d->traits;
    if (m->base) return brim_fail(err, BRIM_ARGUMENT, "memory of %s is reserved already", t->name);
    if (device_bytes < 0 || host_bytes < 0 || device_bytes > INT64_MAX - t->alignment)
        return brim_fail(err, BRIM_ARGUMENT, "%lld and %lld bytes cannot be reserved",
                         (long long)device_bytes, (long long)host_bytes);
    if (device_bytes > t->free_bytes)
        return brim_fail(
            err, BRIM_MEMORY,
            "%s has %lld bytes of memory to give, %lld are needed: %lld bytes are missing", t->name,
            (long long)t->free_bytes, (long long)device_bytes,
            (long long)(device_bytes - t->free_bytes));
    // Whole units, so that fills may end anywhere and an empty space still has an address.
    m->device_bytes = (device_bytes / t->alignment + 1) * t->alignment;
    m->host_bytes = host_bytes > 0 ? host_bytes : 1;
    CUcontext before;
    if (cuda_enter(d, &before, err)) {
        take(d, err);
        if (failed(err)) {
            brim_error_prefix(err, "reserving %lld bytes on %s", (long long)device_bytes, t->name);
            cuda_memory_free(d);
        }
        cuda_leave(d, before);
    }
    return err->status;
}

void cuda_memory_free(backend_device *d) {
    cuda_memory *m = &d->memory;
    if (m->base) d->cu.mem_free(m->base);
    if (m->host) d->cu.mem_free_host(m->host);
    *m = (cuda_memory){0};
}

// ---- using --------------------------------------------------------------------------------------

void *cuda_host_memory(backend_device *d) {
    return d->memory.host;
}

bool cuda_address(const backend_device *d, int64_t offset, int64_t bytes, CUdeviceptr *out,
                  brim_error *err) {
    const cuda_memory *m = &d->memory;
    if (offset < 0 || bytes < 0 || offset > m->device_bytes || bytes > m->device_bytes - offset) {
        brim_fail(err, BRIM_ARGUMENT, "%lld bytes at %lld are outside the device space of %lld",
                  (long long)bytes, (long long)offset, (long long)m->device_bytes);
        return false;
    }
    *out = m->base + (CUdeviceptr)offset;
    return true;
}

// Moves bytes between the host and the device space, after all that was submitted.
static brim_status transfer(backend_device *d, int64_t offset, void *data, int64_t bytes, bool in,
                            brim_error *err) {
    CUdeviceptr address;
    CUcontext before;
    if (cuda_wait(d, err)) return err->status;
    if (!d->memory.base) return brim_fail(err, BRIM_ARGUMENT, "no device memory is reserved");
    if (!cuda_address(d, offset, bytes, &address, err) || !bytes || !cuda_enter(d, &before, err))
        return err->status;
    // On our stream: the plain calls use the default stream, which ours do not wait for.
    CUstream stream = d->queue[QUEUE_COMPUTE];
    if (in)
        cuda_check(&d->cu, d->cu.memcpy_htod_async(address, data, (size_t)bytes, stream),
                   "cuMemcpyHtoDAsync", err);
    else
        cuda_check(&d->cu, d->cu.memcpy_dtoh_async(data, address, (size_t)bytes, stream),
                   "cuMemcpyDtoHAsync", err);
    cuda_check(&d->cu, d->cu.stream_synchronize(stream), "cuStreamSynchronize", err);
    cuda_leave(d, before);
    return err->status;
}

brim_status cuda_write(backend_device *d, int64_t offset, const void *data, int64_t bytes,
                       brim_error *err) {
    return transfer(d, offset, (void *)data, bytes, true, err);
}

brim_status cuda_read(backend_device *d, int64_t offset, void *data, int64_t bytes,
                      brim_error *err) {
    return transfer(d, offset, data, bytes, false, err);
}
