// All memory of a device, taken once: chunks of the device space, the host space, and the file.
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include "backends/host_memory.h"
#include "backends/opencl/device.h"
#include "core/alloc.h"
#include "core/size.h"

enum { HUGE_PAGE = 2 << 20, NAN_PATTERN = 0x7fc0dead };

// ---- taking -------------------------------------------------------------------------------------

// On a CPU the chunks lie in one mapping of ours, so that it can ask for huge pages.
static bool map_host(opencl_memory *m, int64_t bytes, brim_error *err) {
    size_t size;
    if (!size_align((size_t)bytes, HUGE_PAGE, &size) || !size_add(size, HUGE_PAGE, &size)) {
        brim_fail(err, BRIM_MEMORY, "%lld bytes are more than memory", (long long)bytes);
        return false;
    }
    void *mapped = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (mapped == MAP_FAILED) {
        brim_fail(err, BRIM_MEMORY, "the system does not give %lld bytes of memory",
                  (long long)bytes);
        return false;
    }
    madvise(mapped, size, MADV_HUGEPAGE); // only speed depends on it
    m->mapped = mapped;
    m->mapped_bytes = size;
    return true;
}

static bool create_chunks(backend_device *d, brim_error *err) {
    opencl_memory *m = &d->memory;
    char *base = NULL;
    if (d->host_is_device) {
        if (!map_host(m, m->device_bytes, err)) return false;
        base = (char *)(((uintptr_t)m->mapped + HUGE_PAGE - 1) & ~(uintptr_t)(HUGE_PAGE - 1));
    }
    int64_t chunks = (m->device_bytes + m->chunk_bytes - 1) / m->chunk_bytes;
    m->chunk = brim_calloc_array((size_t)chunks, sizeof *m->chunk, err);
    if (!m->chunk) return false;
    for (; m->chunks < chunks; m->chunks++) {
        int64_t start = m->chunks * m->chunk_bytes;
        int64_t bytes =
            m->device_bytes - start < m->chunk_bytes ? m->device_bytes - start : m->chunk_bytes;
        cl_int status;
        m->chunk[m->chunks] =
            d->cl.clCreateBuffer(d->context, CL_MEM_READ_WRITE | (base ? CL_MEM_USE_HOST_PTR : 0),
                                 (size_t)bytes, base ? base + start : NULL, &status);
        if (!opencl_check(status, "clCreateBuffer", err)) return false;
    }
    return true;
}

// Pinned where the device is not the host and its driver gives that much, by letting it allocate.
static bool pin_host(backend_device *d, size_t bytes) {
    opencl_memory *m = &d->memory;
    cl_int status;
    m->host_buffer = d->cl.clCreateBuffer(d->context, CL_MEM_READ_WRITE | CL_MEM_ALLOC_HOST_PTR,
                                          bytes, NULL, &status);
    if (status != CL_SUCCESS) {
        m->host_buffer = NULL;
        return false;
    }
    m->spaces.host =
        d->cl.clEnqueueMapBuffer(d->queue[QUEUE_COMPUTE], m->host_buffer, CL_TRUE,
                                 CL_MAP_READ | CL_MAP_WRITE, 0, bytes, 0, NULL, NULL, &status);
    if (status == CL_SUCCESS) return true;
    d->cl.clReleaseMemObject(m->host_buffer);
    m->host_buffer = NULL;
    m->spaces.host = NULL;
    return false;
}

static bool create_host(backend_device *d, brim_error *err) {
    host_spaces *s = &d->memory.spaces;
    if (d->host_is_device || !pin_host(d, (size_t)s->host_bytes))
        s->host = host_memory_map(s->host_bytes, err);
    return s->host != NULL;
}

// Writes every byte: drivers and systems allocate at the first touch, and that shall be before
// step 1.
static bool touch(backend_device *d, brim_error *err) {
    opencl_memory *m = &d->memory;
    cl_uint pattern = d->settings.poison ? NAN_PATTERN : 0;
    for (int32_t i = 0; i < m->chunks; i++) {
        int64_t start = i * m->chunk_bytes;
        int64_t bytes = i + 1 < m->chunks ? m->chunk_bytes : m->device_bytes - start;
        cl_int status = d->cl.clEnqueueFillBuffer(d->queue[QUEUE_COMPUTE], m->chunk[i], &pattern,
                                                  sizeof pattern, 0, (size_t)bytes, 0, NULL, NULL);
        if (!opencl_check(status, "clEnqueueFillBuffer", err)) return false;
    }
    host_memory_fill(m->spaces.host, m->spaces.host_bytes, pattern, err);
    return opencl_check(d->cl.clFinish(d->queue[QUEUE_COMPUTE]), "clFinish", err);
}

// That the device, and a host that is the device, has so much to give.
static bool check_request(const backend_device *d, const memory_request *r, brim_error *err) {
    const device_traits *t = &d->traits;
    int64_t wanted = r->device_bytes;
    if (wanted < 0 || r->host_bytes < 0 || r->file_bytes < 0 || wanted > INT64_MAX - t->alignment) {
        brim_fail(err, BRIM_ARGUMENT,
                  "%lld device, %lld host and %lld file bytes cannot be reserved",
                  (long long)wanted, (long long)r->host_bytes, (long long)r->file_bytes);
        return false;
    }
    bool less_free = t->free_bytes >= 0 && t->free_bytes < t->memory_bytes;
    int64_t there = less_free ? t->free_bytes : t->memory_bytes;
    if (d->host_is_device && !i64_add(wanted, r->host_bytes, &wanted)) wanted = INT64_MAX;
    if (wanted > there)
        brim_fail(err, BRIM_MEMORY,
                  "%s has %lld bytes of memory to give, %lld are needed: %lld bytes are missing",
                  t->name, (long long)there, (long long)wanted, (long long)(wanted - there));
    return !failed(err);
}

brim_status opencl_reserve(backend_device *d, const memory_request *request, brim_error *err) {
    if (failed(err)) return err->status;
    opencl_memory *m = &d->memory;
    const device_traits *t = &d->traits;
    if (m->chunk) return brim_fail(err, BRIM_ARGUMENT, "memory of %s is reserved already", t->name);
    if (!check_request(d, request, err)) return err->status;
    // Whole units, so that fills may end anywhere and an empty space still has an object.
    m->device_bytes = (request->device_bytes / t->alignment + 1) * t->alignment;
    m->spaces.host_bytes = request->host_bytes > 0 ? request->host_bytes : 1;
    m->chunk_bytes = t->chunk_bytes > 0 ? t->chunk_bytes : m->device_bytes;
    host_file_open(&m->spaces.file, request->file_directory, request->file_bytes, err);
    if (!failed(err) && create_chunks(d, err) && create_host(d, err)) touch(d, err);
    if (failed(err)) {
        brim_error_prefix(err, "reserving %lld bytes on %s", (long long)request->device_bytes,
                          t->name);
        opencl_memory_free(d);
    }
    return err->status;
}

void opencl_memory_free(backend_device *d) {
    opencl_memory *m = &d->memory;
    const opencl_driver *cl = &d->cl;
    // The last one first: NVIDIA's driver (seen with 580.159) crashes where parts that overlap and
    // were used are released in the order in which they were made.
    while (m->parts > 0) cl->clReleaseMemObject(m->part[--m->parts].object);
    free(m->part);
    if (m->host_buffer) {
        cl->clEnqueueUnmapMemObject(d->queue[QUEUE_COMPUTE], m->host_buffer, m->spaces.host, 0,
                                    NULL, NULL);
        cl->clFinish(d->queue[QUEUE_COMPUTE]);
        cl->clReleaseMemObject(m->host_buffer);
    } else {
        host_memory_unmap(m->spaces.host, m->spaces.host_bytes);
    }
    for (int32_t i = 0; i < m->chunks; i++) cl->clReleaseMemObject(m->chunk[i]);
    free(m->chunk);
    if (m->mapped) munmap(m->mapped, m->mapped_bytes);
    host_file_close(&m->spaces.file);
    *m = (opencl_memory){0};
}

// ---- using --------------------------------------------------------------------------------------

void *opencl_host_memory(backend_device *d) {
    return d->memory.spaces.host;
}

int64_t opencl_pinned_bytes(const backend_device *d) {
    const opencl_memory *m = &d->memory;
    return m->host_buffer || d->host_is_device ? m->spaces.host_bytes : 0;
}

cl_mem opencl_chunk(backend_device *d, int64_t offset, int64_t bytes, size_t *within,
                    brim_error *err) {
    const opencl_memory *m = &d->memory;
    if (offset < 0 || bytes < 0 || offset > m->device_bytes || bytes > m->device_bytes - offset) {
        brim_fail(err, BRIM_ARGUMENT, "%lld bytes at %lld are outside the device space of %lld",
                  (long long)bytes, (long long)offset, (long long)m->device_bytes);
        return NULL;
    }
    int64_t chunk = offset / m->chunk_bytes;
    if (chunk >= m->chunks) chunk = m->chunks - 1; // no bytes at the very end
    *within = (size_t)(offset - chunk * m->chunk_bytes);
    if ((int64_t)*within + bytes > m->chunk_bytes) {
        brim_fail(err, BRIM_ARGUMENT, "%lld bytes at %lld straddle chunks of %lld",
                  (long long)bytes, (long long)offset, (long long)m->chunk_bytes);
        return NULL;
    }
    return m->chunk[chunk];
}

static bool is_region(const memory_part *p, cl_mem chunk, const cl_buffer_region *region) {
    return p->chunk == chunk && p->region.origin == region->origin &&
           p->region.size == region->size;
}

cl_mem opencl_part(backend_device *d, int64_t offset, int64_t bytes, size_t *within,
                   brim_error *err) {
    opencl_memory *m = &d->memory;
    cl_mem chunk = opencl_chunk(d, offset, bytes, within, err);
    if (!chunk) return NULL;
    size_t start = *within - *within % (size_t)d->traits.alignment;
    memory_part part = {NULL, chunk, {start, *within - start + (size_t)bytes}};
    *within -= start;
    for (size_t i = 0; i < m->parts; i++) {
        if (is_region(&m->part[i], chunk, &part.region)) return m->part[i].object;
    }
    if (!brim_grow((void **)&m->part, &m->part_capacity, m->parts + 1, sizeof *m->part, err))
        return NULL;
    cl_int status;
    part.object = d->cl.clCreateSubBuffer(chunk, CL_MEM_READ_WRITE, CL_BUFFER_CREATE_TYPE_REGION,
                                          &part.region, &status);
    if (!opencl_check(status, "clCreateSubBuffer", err)) return NULL;
    m->part[m->parts++] = part;
    return part.object;
}

// Moves bytes between the host and the device space, chunk by chunk, after all that was submitted.
static brim_status transfer(backend_device *d, int64_t offset, char *data, int64_t bytes, bool in,
                            brim_error *err) {
    if (opencl_finish(d, err) != BRIM_OK) return err->status;
    const opencl_memory *m = &d->memory;
    if (!m->chunk) return brim_fail(err, BRIM_ARGUMENT, "no device memory is reserved");
    while (bytes > 0) {
        int64_t left = m->chunk_bytes - offset % m->chunk_bytes;
        int64_t part = bytes < left ? bytes : left;
        size_t within;
        cl_mem chunk = opencl_chunk(d, offset, part, &within, err);
        if (!chunk) return err->status;
        cl_command_queue queue = d->queue[QUEUE_COMPUTE];
        cl_int status = in ? d->cl.clEnqueueWriteBuffer(queue, chunk, CL_TRUE, within, (size_t)part,
                                                        data, 0, NULL, NULL)
                           : d->cl.clEnqueueReadBuffer(queue, chunk, CL_TRUE, within, (size_t)part,
                                                       data, 0, NULL, NULL);
        if (!opencl_check(status, in ? "clEnqueueWriteBuffer" : "clEnqueueReadBuffer", err))
            return err->status;
        offset += part, data += part, bytes -= part;
    }
    return BRIM_OK;
}

brim_status opencl_write(backend_device *d, int64_t offset, const void *data, int64_t bytes,
                         brim_error *err) {
    return transfer(d, offset, (char *)data, bytes, true, err);
}

brim_status opencl_read(backend_device *d, int64_t offset, void *data, int64_t bytes,
                        brim_error *err) {
    return transfer(d, offset, data, bytes, false, err);
}

brim_status opencl_write_file(backend_device *d, int64_t offset, const void *data, int64_t bytes,
                              brim_error *err) {
    if (opencl_finish(d, err)) return err->status;
    return host_file_write(&d->memory.spaces.file, offset, data, bytes, err);
}

brim_status opencl_read_file(backend_device *d, int64_t offset, void *data, int64_t bytes,
                             brim_error *err) {
    if (opencl_finish(d, err)) return err->status;
    return host_file_read(&d->memory.spaces.file, offset, data, bytes, err);
}
