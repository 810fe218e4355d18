// All memory of a device, taken once: the device space, the host space, and the file.
#include <string.h>
#include "backends/cuda/device.h"
#include "backends/host_memory.h"
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
    host_memory_fill(m->spaces.host, m->spaces.host_bytes, pattern, err);
    return cuda_check(&d->cu, d->cu.stream_synchronize(stream), "cuStreamSynchronize", err);
}

static bool take_pinned(backend_device *d, size_t bytes, void **out, brim_error *err) {
    return cuda_check(&d->cu, d->cu.mem_host_alloc(out, bytes, CU_MEMHOSTALLOC_PORTABLE),
                      "cuMemHostAlloc", err);
}

static bool take_passage(backend_device *d, cuda_passage *out, brim_error *err) {
    for (int i = 0; i < CUDA_PASSAGES; i++) {
        void *buffer;
        if (!take_pinned(d, CUDA_PASSAGE_BYTES, &buffer, err)) return false;
        out->buffer[i] = buffer;
        unsigned flags = CU_EVENT_DISABLE_TIMING | CU_EVENT_BLOCKING_SYNC;
        if (!cuda_check(&d->cu, d->cu.event_create(&out->free[i], flags), "cuEventCreate", err))
            return false;
    }
    return true;
}

// Systems limit what can be pinned. Copies of memory that is not pass through buffers that are.
static bool take_host(backend_device *d, brim_error *err) {
    cuda_memory *m = &d->memory;
    host_spaces *s = &m->spaces;
    void *host;
    brim_error refused = {0};
    m->pinned = take_pinned(d, (size_t)s->host_bytes, &host, &refused);
    if (m->pinned) {
        s->host = host;
        return true;
    }
    s->host = host_memory_map(s->host_bytes, err);
    for (int q = 0; q < DEVICE_QUEUES && !failed(err); q++)
        take_passage(d, &m->queue_passage[q], err);
    return !failed(err);
}

static bool take(backend_device *d, brim_error *err) {
    cuda_memory *m = &d->memory;
    return cuda_check(&d->cu, d->cu.mem_alloc(&m->base, (size_t)m->device_bytes), "cuMemAlloc",
                      err) &&
           take_host(d, err) && take_passage(d, &m->passage, err) && touch(d, err);
}

static bool check_request(const backend_device *d, const memory_request *r, brim_error *err) {
    const device_traits *t = &d->traits;
    if (r->device_bytes < 0 || r->host_bytes < 0 || r->file_bytes < 0 ||
        r->device_bytes > INT64_MAX - t->alignment)
        brim_fail(err, BRIM_ARGUMENT,
                  "%lld device, %lld host and %lld file bytes cannot be reserved",
                  (long long)r->device_bytes, (long long)r->host_bytes, (long long)r->file_bytes);
    else if (r->device_bytes > t->free_bytes)
        brim_fail(err, BRIM_MEMORY,
                  "%s has %lld bytes of memory to give, %lld are needed: %lld bytes are missing",
                  t->name, (long long)t->free_bytes, (long long)r->device_bytes,
                  (long long)(r->device_bytes - t->free_bytes));
    return !failed(err);
}

brim_status cuda_reserve(backend_device *d, const memory_request *request, brim_error *err) {
    if (failed(err)) return err->status;
    cuda_memory *m = &d->memory;
    const device_traits *t = &d->traits;
    if (m->base) return brim_fail(err, BRIM_ARGUMENT, "memory of %s is reserved already", t->name);
    if (!check_request(d, request, err)) return err->status;
    // Whole units, so that fills may end anywhere and an empty space still has an address.
    m->device_bytes = (request->device_bytes / t->alignment + 1) * t->alignment;
    m->spaces.host_bytes = request->host_bytes > 0 ? request->host_bytes : 1;
    CUcontext before;
    if (cuda_enter(d, &before, err)) {
        host_file_open(&m->spaces.file, request->file_directory, request->file_bytes, err);
        if (!failed(err)) take(d, err);
        if (failed(err)) {
            brim_error_prefix(err, "reserving %lld bytes on %s", (long long)request->device_bytes,
                              t->name);
            cuda_memory_free(d);
        }
        cuda_leave(d, before);
    }
    return err->status;
}

static void free_passage(backend_device *d, const cuda_passage *p) {
    for (int i = 0; i < CUDA_PASSAGES; i++) {
        if (p->free[i]) d->cu.event_destroy(p->free[i]);
        if (p->buffer[i]) d->cu.mem_free_host(p->buffer[i]);
    }
}

void cuda_memory_free(backend_device *d) {
    cuda_memory *m = &d->memory;
    // Nothing may still be on its way, whatever failed before.
    for (int i = 0; i < DEVICE_QUEUES; i++)
        if (d->queue[i]) d->cu.stream_synchronize(d->queue[i]);
    if (m->base) d->cu.mem_free(m->base);
    if (m->pinned)
        d->cu.mem_free_host(m->spaces.host);
    else
        host_memory_unmap(m->spaces.host, m->spaces.host_bytes);
    free_passage(d, &m->passage);
    for (int q = 0; q < DEVICE_QUEUES; q++) free_passage(d, &m->queue_passage[q]);
    host_file_close(&m->spaces.file);
    *m = (cuda_memory){0};
}

// ---- using --------------------------------------------------------------------------------------

void *cuda_host_memory(backend_device *d) {
    return d->memory.spaces.host;
}

int64_t cuda_pinned_bytes(const backend_device *d) {
    return d->memory.pinned ? d->memory.spaces.host_bytes : 0;
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

// Part number i of a copy passes through buffer i modulo CUDA_PASSAGES.
static int64_t part_bytes(int64_t bytes, int64_t part) {
    int64_t left = bytes - part * CUDA_PASSAGE_BYTES;
    return left < CUDA_PASSAGE_BYTES ? left : CUDA_PASSAGE_BYTES;
}

static bool await_part(const backend_device *d, const cuda_passage *passage, int64_t part,
                       brim_error *err) {
    CUresult status = d->cu.event_synchronize(passage->free[part % CUDA_PASSAGES]);
    return cuda_check(&d->cu, status, "cuEventSynchronize", err);
}

static bool note_part(const backend_device *d, const cuda_passage *passage, int64_t part,
                      CUstream stream, brim_error *err) {
    CUresult status = d->cu.event_record(passage->free[part % CUDA_PASSAGES], stream);
    return cuda_check(&d->cu, status, "cuEventRecord", err);
}

// While one part is on its way, the host fills the other buffer.
void cuda_copy_in(const backend_device *d, const cuda_passage *passage, CUstream stream,
                  CUdeviceptr to, const char *from, int64_t bytes, brim_error *err) {
    int64_t parts = (bytes + CUDA_PASSAGE_BYTES - 1) / CUDA_PASSAGE_BYTES;
    for (int64_t i = 0; i < parts && !failed(err); i++) {
        char *buffer = passage->buffer[i % CUDA_PASSAGES];
        int64_t at = i * CUDA_PASSAGE_BYTES;
        size_t part = (size_t)part_bytes(bytes, i);
        if (i >= CUDA_PASSAGES && !await_part(d, passage, i, err)) return;
        memcpy(buffer, from + at, part);
        CUresult status = d->cu.memcpy_htod_async(to + (CUdeviceptr)at, buffer, part, stream);
        if (cuda_check(&d->cu, status, "cuMemcpyHtoDAsync", err))
            note_part(d, passage, i, stream, err);
    }
    if (!failed(err) && parts) await_part(d, passage, parts - 1, err);
}

// While one part is on its way, the host empties the other buffer.
void cuda_copy_out(const backend_device *d, const cuda_passage *passage, CUstream stream, char *to,
                   CUdeviceptr from, int64_t bytes, brim_error *err) {
    int64_t parts = (bytes + CUDA_PASSAGE_BYTES - 1) / CUDA_PASSAGE_BYTES;
    for (int64_t i = 0; i <= parts && !failed(err); i++) {
        if (i < parts) {
            CUdeviceptr source = from + (CUdeviceptr)(i * CUDA_PASSAGE_BYTES);
            CUresult status = d->cu.memcpy_dtoh_async(passage->buffer[i % CUDA_PASSAGES], source,
                                                      (size_t)part_bytes(bytes, i), stream);
            if (!cuda_check(&d->cu, status, "cuMemcpyDtoHAsync", err) ||
                !note_part(d, passage, i, stream, err))
                return;
        }
        if (i == 0 || !await_part(d, passage, i - 1, err)) continue;
        memcpy(to + (i - 1) * CUDA_PASSAGE_BYTES, passage->buffer[(i - 1) % CUDA_PASSAGES],
               (size_t)part_bytes(bytes, i - 1));
    }
}

// Moves bytes between the host and the device space, after all that was submitted.
static brim_status transfer(backend_device *d, int64_t offset, char *data, int64_t bytes, bool in,
                            brim_error *err) {
    CUdeviceptr address;
    CUcontext before;
    CUstream stream = d->queue[QUEUE_COMPUTE];
    if (cuda_finish(d, err)) return err->status;
    if (!d->memory.base) return brim_fail(err, BRIM_ARGUMENT, "no device memory is reserved");
    if (!cuda_address(d, offset, bytes, &address, err) || !cuda_enter(d, &before, err))
        return err->status;
    if (in)
        cuda_copy_in(d, &d->memory.passage, stream, address, data, bytes, err);
    else
        cuda_copy_out(d, &d->memory.passage, stream, data, address, bytes, err);
    cuda_leave(d, before);
    return err->status;
}

brim_status cuda_write(backend_device *d, int64_t offset, const void *data, int64_t bytes,
                       brim_error *err) {
    return transfer(d, offset, (char *)data, bytes, true, err);
}

brim_status cuda_read(backend_device *d, int64_t offset, void *data, int64_t bytes,
                      brim_error *err) {
    return transfer(d, offset, data, bytes, false, err);
}

brim_status cuda_write_file(backend_device *d, int64_t offset, const void *data, int64_t bytes,
                            brim_error *err) {
    if (cuda_finish(d, err)) return err->status;
    return host_file_write(&d->memory.spaces.file, offset, data, bytes, err);
}

brim_status cuda_read_file(backend_device *d, int64_t offset, void *data, int64_t bytes,
                           brim_error *err) {
    if (cuda_finish(d, err)) return err->status;
    return host_file_read(&d->memory.spaces.file, offset, data, bytes, err);
}
