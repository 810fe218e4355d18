#include "optim/measure.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "backends/kernel_cache.h"
#include "core/alloc.h"
#include "core/clock.h"
#include "graph/build.h"
#include "optim/compiled.h"

// Products of 1,024^3 are large enough for any device's library, and 20 ms of two CPU cores;
// buffers of 32 MiB are larger than most caches.
enum { SIDE = 1024, PRODUCTS = 4, REPEATS = 12 };
static const int64_t block_bytes = 32 << 20;
static const char version[] = "rates 1";

typedef struct bench {
    const backend *api;
    backend_device *device;
    brim_error *err;
} bench;

// ---- programs of copies -------------------------------------------------------------------------

typedef struct copy {
    queue_id queue;
    byte_range from, to;
} copy;

static void add_copy(program *p, const copy *c, brim_error *err) {
    record_access access[] = {{c->from, false}, {c->to, true}};
    program_record r = {.kind = RECORD_COPY,
                        .queue = c->queue,
                        .sections = SECTION_LAST,
                        .node = -1,
                        .label = "copy",
                        .accesses = 2,
                        .access = access,
                        .as.copy = {c->from, c->to, 0}};
    program_add_record(p, &r, err);
}

// The best of some runs, in seconds.
static double time_program(const bench *b, loaded_program *loaded) {
    double best = 0;
    for (int i = 0; i < REPEATS && !failed(b->err); i++) {
        double start = clock_seconds();
        b->api->run(loaded, SECTION_LAST, 0, b->err);
        b->api->finish(b->device, b->err);
        double seconds = clock_seconds() - start;
        if (i > 0 && (best == 0 || seconds < best)) best = seconds; // the first one warms up
    }
    return best > 0 ? best : 1e-9;
}

static double time_copies(const bench *b, const copy *copies, int count) {
    program *p;
    loaded_program *loaded = NULL;
    double seconds = 1;
    if (program_create(&p, b->err)) return seconds;
    p->device_bytes = 2 * block_bytes;
    p->host_bytes = 2 * block_bytes;
    for (int i = 0; i < count; i++) add_copy(p, &copies[i], b->err);
    program_order(p, b->err);
    if (!failed(b->err)) b->api->load(b->device, p, &loaded, b->err);
    if (loaded) seconds = time_program(b, loaded);
    if (loaded) b->api->unload(loaded);
    program_free(p);
    return seconds;
}

static void measure_copies(const bench *b, brim_rates *out) {
    const byte_range device[] = {{SPACE_DEVICE, 0, block_bytes},
                                 {SPACE_DEVICE, block_bytes, block_bytes}};
    const byte_range host[] = {{SPACE_HOST, 0, block_bytes},
                               {SPACE_HOST, block_bytes, block_bytes}};
    const copy in = {QUEUE_IN, host[0], device[0]}, out_ = {QUEUE_OUT, device[1], host[1]};
    const copy within = {QUEUE_COMPUTE, device[0], device[1]}, both[] = {in, out_};
    double bytes = (double)block_bytes;
    out->memory = 2 * bytes / time_copies(b, &within, 1);
    out->link_in = bytes / time_copies(b, &in, 1);
    out->link_out = bytes / time_copies(b, &out_, 1);
    out->link_both = 2 * bytes / time_copies(b, both, 2);
}

// ---- the host's own -----------------------------------------------------------------------------

static void measure_host(const bench *b, brim_rates *out) {
    int64_t count = block_bytes / (int64_t)sizeof(float);
    const kernel_argument argument[] = {{ARGUMENT_BUFFER, {.offset = 0}},
                                        {ARGUMENT_BUFFER, {.offset = block_bytes}},
                                        {ARGUMENT_I64, {.i64 = count}}};
    const record_access access[] = {{{SPACE_HOST, 0, block_bytes}, true},
                                    {{SPACE_HOST, block_bytes, block_bytes}, false}};
    program_record r = {.kind = RECORD_HOST,
                        .queue = QUEUE_HOST,
                        .sections = SECTION_LAST,
                        .node = -1,
                        .label = "accumulate",
                        .accesses = 2,
                        .access = access,
                        .as.host = {host_kernel_find("accumulate"), 3, argument}};
    program *p;
    loaded_program *loaded = NULL;
    if (program_create(&p, b->err)) return;
    p->host_bytes = 2 * block_bytes;
    program_add_record(p, &r, b->err);
    if (!failed(b->err)) b->api->load(b->device, p, &loaded, b->err);
    if (loaded)
        out->host = 3 * (double)block_bytes / time_program(b, loaded); // two read, one written
    if (loaded) b->api->unload(loaded);
    program_free(p);
}

// ---- products -----------------------------------------------------------------------------------

static brim_graph *product_graph(brim_dtype dtype, brim_error *err) {
    brim_graph *g = brim_graph_create(err);
    if (!g) return NULL;
    brim_value x = brim_parameter(g, "x", (brim_init){0}, SIDE, SIDE);
    if (dtype != BRIM_F32) x = brim_cast(x, dtype);
    brim_value y = x;
    for (int i = 0; i < PRODUCTS; i++) y = brim_matmul(y, x);
    brim_output(brim_max(brim_cast(y, BRIM_F32), NULL, 0, false), "y");
    return g;
}

static double measure_products(const bench *b, brim_dtype dtype) {
    compile_target target = {.backend = b->api, .device = b->device};
    compiled c = {0};
    double seconds = 1;
    brim_graph *g = product_graph(dtype, b->err);
    if (g) compiled_plan(&c, g, 1, &target, b->err);
    compiled_lower(&c, &target, b->err);
    if (!failed(b->err)) compiled_load(&c, &target, b->err);
    if (!failed(b->err)) seconds = time_program(b, c.loaded);
    compiled_free(&c, b->api);
    return 2.0 * SIDE * SIDE * SIDE * PRODUCTS / seconds;
}

// ---- all of it ----------------------------------------------------------------------------------

static void measure_all(bench *b, brim_rates *out) {
    enum { PRODUCT_BYTES = 64 << 20 }; // a few matrices, workspaces and their results
    memory_request request = {.device_bytes = 2 * block_bytes + PRODUCT_BYTES,
                              .host_bytes = 2 * block_bytes};
    if (b->api->reserve(b->device, &request, b->err)) return;
    measure_copies(b, out);
    measure_host(b, out);
    out->matmul_32 = measure_products(b, BRIM_F32);
    out->matmul_16 = measure_products(b, BRIM_BF16);
}

brim_status measure_rates(const char *device, const brim_rates *usual, int64_t device_bytes,
                          brim_rates *out, brim_error *err) {
    bench b = {.err = err};
    *out = *usual;
    if (backend_open(device, &(device_settings){0}, &b.api, &b.device, err)) return err->status;
    const device_traits *t = b.api->traits(b.device);
    kernel_cache *cache = kernel_cache_open(NULL, err);
    kernel_key key = {.part = {version, b.api->name, t->name, t->driver}, .parts = 4};
    void *known = NULL;
    size_t bytes = 0;
    if (cache && kernel_cache_get(cache, &key, &known, &bytes) && bytes == sizeof *out) {
        memcpy(out, known, sizeof *out);
    } else if (cache && (!device_bytes || device_bytes >= MEASURE_BYTES)) {
        measure_all(&b, out);
        if (!failed(err)) kernel_cache_put(cache, &key, out, sizeof *out);
    }
    free(known);
    kernel_cache_close(cache);
    b.api->close(b.device);
    if (failed(err)) brim_error_prefix(err, "measuring what the device can do");
    return err->status;
}

// ---- disks --------------------------------------------------------------------------------------

static bool write_all(int file, const char *data, size_t bytes) {
    while (bytes > 0) {
        ssize_t done = write(file, data, bytes);
        if (done < 0 && errno == EINTR) continue;
        if (done <= 0) return false;
        data += done, bytes -= (size_t)done;
    }
    return fdatasync(file) == 0;
}

static bool read_all(int file, char *data, size_t bytes) {
    posix_fadvise(file, 0, 0, POSIX_FADV_DONTNEED);
    if (lseek(file, 0, SEEK_SET) < 0) return false;
    while (bytes > 0) {
        ssize_t done = read(file, data, bytes);
        if (done < 0 && errno == EINTR) continue;
        if (done <= 0) return false;
        data += done, bytes -= (size_t)done;
    }
    return true;
}

brim_status measure_disk(const char *folder, brim_rates *out, brim_error *err) {
    size_t bytes = 2 * (size_t)block_bytes;
    char path[4200];
    if (failed(err)) return err->status;
    snprintf(path, sizeof path, "%.4096s/brim-speed-XXXXXX", folder);
    char *data = brim_calloc_array(bytes, 1, err);
    if (!data) return err->status;
    int file = mkstemp(path);
    if (file >= 0) unlink(path);
    double start = clock_seconds();
    bool done = file >= 0 && write_all(file, data, bytes);
    double written = clock_seconds();
    done = done && read_all(file, data, bytes);
    double read = clock_seconds();
    if (!done)
        brim_fail(err, BRIM_IO, "%s: cannot be used for a file: %s", folder, strerror(errno));
    out->disk_write = (double)bytes / (written - start);
    out->disk_read = (double)bytes / (read - written);
    if (file >= 0) close(file);
    free(data);
    return err->status;
}
