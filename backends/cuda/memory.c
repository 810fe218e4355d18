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

static bool take_pinned(backend_device *d, size_t bytes, void **out, brim_error *err) {
    return cuda_check(&d->cu, d->cu.mem_host_alloc(out, bytes, CU_MEMHOSTALLOC_PORTABLE),
                      "cuMemHostAlloc", err);
}

static bool take(backend_device *d, brim_error *err) {
    cuda_memory *m = &d->memory;
    if (!cuda_check(&d->cu, d->cu.mem_alloc(&m->base, (size_t)m->device_bytes), "cuMemAlloc",
                    err) ||
        !take_pinned(d, (size_t)m->host_bytes, &m->host, err))
        return false;
    for (int i = 0; i < CUDA_PASSAGES; i++) {
        void *passage;
        if (!take_pinned(d, CUDA_PASSAGE_BYTES, &passage, err)) return false;
        m->passage[i] = passage;
    }
    return touch(d, err);
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
    // Nothing may still be on its way, whatever failed before.
    for (int i = 0; i < DEVICE_QUEUES; i++)
        if (d->queue[i]) d->cu.stream_synchronize(d->queue[i]);
    if (m->base) d->cu.mem_free(m->base);
    if (m->host) d->cu.mem_free_host(m->host);
    for (int i = 0; i < CUDA_PASSAGES; i++)
        if (m->passage[i]) d->cu.mem_free_host(m->passage[i]);
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

// A part of a transfer: its passage, and the queue that uses no other. Until that queue is done, the
// passage is not to be touched.
typedef struct transfer_part {
    CUdeviceptr device;
    char *host, *passage;
    size_t bytes;
    CUstream queue;
} transfer_part;

static transfer_part part_at(const backend_device *d, CUdeviceptr address, void *data,
                             int64_t bytes, int64_t part) {
    int64_t at = part * CUDA_PASSAGE_BYTES, left = bytes - at;
    int which = (int)(part % CUDA_PASSAGES);
    return (transfer_part){.device = address + (CUdeviceptr)at,
                           .host = (char *)data + at,
                           .passage = d->memory.passage[which],
                           .bytes = (size_t)(left < CUDA_PASSAGE_BYTES ? left : CUDA_PASSAGE_BYTES),
                           .queue = d->queue[which]};
}

static bool finish_part(const backend_device *d, const transfer_part *p, brim_error *err) {
    return cuda_check(&d->cu, d->cu.stream_synchronize(p->queue), "cuStreamSynchronize", err);
}

// While one part is on its way, the host fills the other passage.
static void copy_in(backend_device *d, CUdeviceptr address, void *data, int64_t bytes,
                    brim_error *err) {
    for (int64_t i = 0; i * CUDA_PASSAGE_BYTES < bytes && !failed(err); i++) {
        transfer_part p = part_at(d, address, data, bytes, i);
        if (!finish_part(d, &p, err)) return;
        memcpy(p.passage, p.host, p.bytes);
        cuda_check(&d->cu, d->cu.memcpy_htod_async(p.device, p.passage, p.bytes, p.queue),
                   "cuMemcpyHtoDAsync", err);
    }
}

static bool take_out(const backend_device *d, const transfer_part *p, brim_error *err) {
    if (!finish_part(d, p, err)) return false;
    memcpy(p->host, p->passage, p->bytes);
    return true;
}

// While one part is on its way, the host empties the other passage.
static void copy_out(backend_device *d, CUdeviceptr address, void *data, int64_t bytes,
                     brim_error *err) {
    transfer_part before = {0};
    for (int64_t i = 0; i * CUDA_PASSAGE_BYTES < bytes && !failed(err); i++) {
        transfer_part p = part_at(d, address, data, bytes, i);
        cuda_check(&d->cu, d->cu.memcpy_dtoh_async(p.passage, p.device, p.bytes, p.queue),
                   "cuMemcpyDtoHAsync", err);
        if (i > 0 && !failed(err)) take_out(d, &before, err);
        before = p;
    }
    if (!failed(err)) take_out(d, &before, err);
}

// Moves bytes between the host and the device space, after all that was submitted.
static brim_status transfer(backend_device *d, int64_t offset, void *data, int64_t bytes,
                            void (*copy)(backend_device *, CUdeviceptr, void *, int64_t,
                                         brim_error *),
                            brim_error *err) {
    CUdeviceptr address;
    CUcontext before;
    if (cuda_wait(d, err)) return err->status;
    if (!d->memory.base) return brim_fail(err, BRIM_ARGUMENT, "no device memory is reserved");
    if (!cuda_address(d, offset, bytes, &address, err) || !bytes || !cuda_enter(d, &before, err))
        return err->status;
    copy(d, address, data, bytes, err);
    cuda_leave(d, before);
    return failed(err) ? err->status : cuda_wait(d, err);
}

brim_status cuda_write(backend_device *d, int64_t offset, const void *data, int64_t bytes,
                       brim_error *err) {
    return transfer(d, offset, (void *)data, bytes, copy_in, err);
}

brim_status cuda_read(backend_device *d, int64_t offset, void *data, int64_t bytes,
                      brim_error *err) {
    return transfer(d, offset, data, bytes, copy_out, err);
}
