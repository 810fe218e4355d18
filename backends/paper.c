#include "backends/paper.h"

#include <stdio.h>
#include <stdlib.h>
#include "core/alloc.h"
#include "core/error.h"

struct backend_device {
    device_traits traits;
    bool cuda;
};

// What cuBLASLt may take for a product (see backends/cuda/matmul.c). A real device asks the
// library, which often wants less: a plan on paper may be a little large, never too small.
static const int64_t cuda_workspace = (int64_t)32 << 20;

static const backend paper_backend;

// ---- opening ------------------------------------------------------------------------------------

static brim_status check_rates(const brim_rates *r, brim_error *err) {
    const struct {
        const char *field;
        double value;
        bool may_be_zero;
    } rows[] = {
        {"memory_bytes", (double)r->memory_bytes, false},
        {"overhead_bytes", (double)r->overhead_bytes, true},
        {"memory", r->memory, false},
        {"matmul_16", r->matmul_16, false},
        {"matmul_32", r->matmul_32, false},
        {"link_in", r->link_in, false},
        {"link_out", r->link_out, false},
        {"link_both", r->link_both, false},
        {"host", r->host, false},
        {"disk_read", r->disk_read, true},
        {"disk_write", r->disk_write, true},
        {"launch", r->launch, true},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (!(rows[i].value > 0 || (rows[i].may_be_zero && rows[i].value == 0)))
            brim_fail(err, BRIM_ARGUMENT, "rates.%s is %g; expected %s", rows[i].field,
                      rows[i].value, rows[i].may_be_zero ? "0 or more" : "more than 0");
    if (r->overhead_bytes >= r->memory_bytes)
        brim_fail(err, BRIM_ARGUMENT,
                  "rates.overhead_bytes is %lld; expected less than the device's %lld",
                  (long long)r->overhead_bytes, (long long)r->memory_bytes);
    return err->status;
}

// As backends/cuda and backends/opencl find them on cards of today.
static device_traits traits_of(const brim_rates *r, bool cuda) {
    device_traits t = {
        .vec = 4,
        .group = 256,
        .max_group = cuda ? 1024 : 256,
        .local_bytes = 48 << 10,
        .memory_bytes = r->memory_bytes,
        .free_bytes = r->memory_bytes - r->overhead_bytes,
        .alignment = 256,
        .exact_f32 = true,
        // Rates say nothing of it; it decides how rows are shared out, and a workspace of some KiB.
        .compute_units = 48,
    };
    snprintf(t.name, sizeof t.name, "%s", r->name);
    snprintf(t.driver, sizeof t.driver, "none, on paper");
    snprintf(t.backend, sizeof t.backend, cuda ? "cuda" : "opencl");
    return t;
}

brim_status paper_open(const brim_rates *rates, bool cuda, const backend **out_backend,
                       backend_device **out, brim_error *err) {
    if (failed(err) || check_rates(rates, err)) return err->status;
    backend_device *d = brim_calloc(sizeof *d, err);
    if (!d) return err->status;
    d->traits = traits_of(rates, cuda);
    d->cuda = cuda;
    *out_backend = &paper_backend;
    *out = d;
    return BRIM_OK;
}

// ---- what plans ask -----------------------------------------------------------------------------

static void paper_close(backend_device *d) {
    free(d);
}

static const device_traits *paper_traits(const backend_device *d) {
    return &d->traits;
}

// cuBLASLt serves all products; CLBlast those in f32 (see backends/opencl/matmul.c).
static bool paper_serves(backend_device *d, const matmul_shape *s) {
    bool clblast = s->in == BRIM_F32 && s->out == BRIM_F32 && s->batch <= 64;
    return d->cuda || clblast;
}

static brim_status paper_workspace(backend_device *d, const matmul_shape *s, int64_t *bytes,
                                   brim_error *err) {
    (void)s;
    *bytes = d->cuda ? cuda_workspace : 0;
    return err->status;
}

static const char *paper_library(const backend_device *d) {
    return d->cuda ? "cuBLASLt, on paper" : "CLBlast, on paper";
}

// Nothing runs, so there is nothing to wait for.
static brim_status paper_wait(backend_device *d, brim_error *err) {
    (void)d;
    return err->status;
}

// ---- what cannot be done ------------------------------------------------------------------------

static brim_status refuse(const backend_device *d, brim_error *err) {
    return brim_fail(err, BRIM_UNSUPPORTED,
                     "%s is a device on paper: steps can be planned for it, not run",
                     d->traits.name);
}

static int paper_count(char *why, size_t size) {
    snprintf(why, size, "%s", "devices on paper are made from rates");
    return 0;
}

static brim_status paper_describe(int index, device_traits *out, brim_error *err) {
    (void)out;
    return brim_fail(err, BRIM_UNSUPPORTED, "there is no device paper:%d", index);
}

static brim_status paper_open_index(int index, const device_settings *settings,
                                    backend_device **out, brim_error *err) {
    (void)settings, (void)out;
    return brim_fail(err, BRIM_UNSUPPORTED, "there is no device paper:%d", index);
}

static brim_status paper_reserve(backend_device *d, const memory_request *request,
                                 brim_error *err) {
    (void)request;
    return refuse(d, err);
}

static int64_t paper_pinned_bytes(const backend_device *d) {
    (void)d;
    return 0;
}

static void *paper_host_memory(backend_device *d) {
    (void)d;
    return NULL;
}

static brim_status paper_write(backend_device *d, int64_t offset, const void *data, int64_t bytes,
                               brim_error *err) {
    (void)offset, (void)data, (void)bytes;
    return refuse(d, err);
}

static brim_status paper_read(backend_device *d, int64_t offset, void *data, int64_t bytes,
                              brim_error *err) {
    (void)offset, (void)data, (void)bytes;
    return refuse(d, err);
}

static brim_status paper_load(backend_device *d, const program *p, loaded_program **out,
                              brim_error *err) {
    (void)p, (void)out;
    return refuse(d, err);
}

static void paper_unload(loaded_program *loaded) {
    (void)loaded;
}

static brim_status paper_run(loaded_program *loaded, uint8_t section, int32_t micro_batch,
                             brim_error *err) {
    (void)loaded, (void)section, (void)micro_batch;
    return brim_fail(err, BRIM_UNSUPPORTED, "nothing runs on a device on paper");
}

static const backend paper_backend = {
    .name = "paper",
    .count = paper_count,
    .describe = paper_describe,
    .open = paper_open_index,
    .close = paper_close,
    .traits = paper_traits,
    .reserve = paper_reserve,
    .host_memory = paper_host_memory,
    .pinned_bytes = paper_pinned_bytes,
    .write = paper_write,
    .read = paper_read,
    .write_file = paper_write,
    .read_file = paper_read,
    .matmul_workspace = paper_workspace,
    .matmul_library = paper_library,
    .matmul_native = paper_serves,
    .load = paper_load,
    .unload = paper_unload,
    .run = paper_run,
    .wait = paper_wait,
    .finish = paper_wait,
};
