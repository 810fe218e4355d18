// A program on a CUDA device: everything that can be prepared is prepared by load, so that a run
// only submits.
#include <stdlib.h>
#include <string.h>
#include "backends/cuda/device.h"
#include "core/alloc.h"

// An argument as the driver wants it: by its address. A buffer is two.
typedef union argument_value {
    CUdeviceptr address;
    int64_t i64;
    int32_t i32;
    float f32;
} argument_value;

typedef struct prepared_launch {
    CUfunction function;
    argument_value *value;
    void **address; // of the values
} prepared_launch;

typedef struct prepared_copy {
    CUdeviceptr from, to; // 0: the staging area
} prepared_copy;

typedef struct prepared_record {
    CUevent done; // NULL where no record of another queue waits for it
    union {
        prepared_launch launch;
        cuda_product product;
        prepared_copy copy;
        CUdeviceptr fill;
    } as;
} prepared_record;

struct loaded_program {
    backend_device *device;
    const program *p;
    CUmodule *module;
    int32_t *
        module_of; // by kernel of the program; those with one text and one set of defines share one
    int32_t modules;
    prepared_record *record;
};

// ---- loading: kernels ---------------------------------------------------------------------------

// The driver may allow less for a kernel than the device does, once it knows its registers.
static bool check_group(backend_device *d, CUfunction function, const kernel_spec *spec,
                        brim_error *err) {
    int group = 0;
    if (!cuda_check(
            &d->cu,
            d->cu.func_get_attribute(&group, CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK, function),
            "cuFuncGetAttribute", err))
        return false;
    if (spec->group > group)
        brim_fail(err, BRIM_UNSUPPORTED,
                  "kernel %s wants groups of %d, %s runs it in groups of %d at most", spec->name,
                  spec->group, d->traits.name, group);
    return !failed(err);
}

// The bytes of a kernel's parameter; 0 beyond its last one.
static bool parameter_bytes(const backend_device *d, CUfunction function, int32_t index,
                            size_t *out, brim_error *err) {
    size_t offset;
    CUresult status = d->cu.func_get_param_info(function, (size_t)index, &offset, out);
    if (status != CUDA_ERROR_INVALID_VALUE)
        return cuda_check(&d->cu, status, "cuFuncGetParamInfo", err);
    *out = 0;
    return true;
}

// A launch copies as many bytes as the kernel's parameters have: another number of arguments, or
// another size, would go unnoticed.
static bool check_arguments(const backend_device *d, CUfunction function,
                            const launch_record *launch, brim_error *err) {
    int32_t given = 0, taken = 0;
    size_t bytes = 1;
    if (!d->cu.func_get_param_info) return true;
    for (; parameter_bytes(d, function, taken, &bytes, err) && bytes; taken++)
        ;
    for (int32_t i = 0; i < launch->arguments && !failed(err); i++) {
        argument_kind kind = launch->argument[i].kind;
        size_t expected = kind == ARGUMENT_I32 || kind == ARGUMENT_F32 ? 4 : 8;
        if (parameter_bytes(d, function, given, &bytes, err) && bytes && bytes != expected)
            brim_fail(err, BRIM_ARGUMENT, "argument %d: %zu bytes, the kernel takes %zu", i,
                      expected, bytes);
        given += kind == ARGUMENT_BUFFER ? 2 : 1; // a base, and an offset
    }
    if (given != taken)
        brim_fail(err, BRIM_ARGUMENT, "%d arguments, the kernel takes %d", given, taken);
    return !failed(err);
}

static bool set_argument(backend_device *d, const kernel_argument *a, prepared_launch *out,
                         int32_t *index, brim_error *err) {
    argument_value *value = &out->value[*index];
    switch (a->kind) {
    case ARGUMENT_BUFFER: // a null buffer is a base of 0
        if (a->as.offset >= 0 && !cuda_address(d, 0, 0, &value[0].address, err)) return false;
        if (a->as.offset > d->memory.device_bytes) {
            brim_fail(err, BRIM_ARGUMENT, "a buffer at %lld is outside the device space",
                      (long long)a->as.offset);
            return false;
        }
        value[1].i64 = a->as.offset >= 0 ? a->as.offset : 0;
        *index += 2;
        return true;
    case ARGUMENT_I32:
        value->i32 = a->as.i32;
        break;
    case ARGUMENT_I64:
        value->i64 = a->as.i64;
        break;
    case ARGUMENT_F32:
        value->f32 = a->as.f32;
        break;
    }
    ++*index;
    return true;
}

static bool set_arguments(backend_device *d, const launch_record *launch, prepared_launch *out,
                          brim_error *err) {
    size_t most = 2 * (size_t)launch->arguments;
    int32_t count = 0;
    out->value = brim_calloc_array(most, sizeof *out->value, err);
    out->address = brim_calloc_array(most, sizeof *out->address, err);
    if (failed(err)) return false;
    for (int32_t i = 0; i < launch->arguments; i++) {
        if (set_argument(d, &launch->argument[i], out, &count, err)) continue;
        brim_error_prefix(err, "argument %d", i);
        return false;
    }
    for (int32_t i = 0; i < count; i++) out->address[i] = &out->value[i];
    return true;
}

static bool prepare_launch(loaded_program *l, const launch_record *launch, prepared_launch *out,
                           brim_error *err) {
    backend_device *d = l->device;
    const kernel_spec *spec = &l->p->kernel[launch->kernel];
    CUmodule module = l->module[l->module_of[launch->kernel]];
    return cuda_check(&d->cu, d->cu.module_get_function(&out->function, module, spec->name),
                      "cuModuleGetFunction", err) &&
           check_group(d, out->function, spec, err) &&
           check_arguments(d, out->function, launch, err) && set_arguments(d, launch, out, err);
}

// ---- loading: other records ---------------------------------------------------------------------

// One side of a copy. The staging area has a record's place of every micro-batch; the last is not
// known here.
static bool place_range(backend_device *d, const byte_range *range, CUdeviceptr *out,
                        brim_error *err) {
    if (range->space == SPACE_DEVICE) return cuda_address(d, range->offset, range->bytes, out, err);
    *out = 0;
    if (range->offset >= 0 && range->bytes >= 0 && range->offset <= d->memory.host_bytes &&
        range->bytes <= d->memory.host_bytes - range->offset)
        return true;
    brim_fail(err, BRIM_ARGUMENT, "%lld bytes at %lld are outside the staging area of %lld",
              (long long)range->bytes, (long long)range->offset, (long long)d->memory.host_bytes);
    return false;
}

static bool prepare_copy(loaded_program *l, const copy_record *copy, prepared_copy *out,
                         brim_error *err) {
    if (copy->from.bytes != copy->to.bytes ||
        (copy->from.space == SPACE_HOST && copy->to.space == SPACE_HOST)) {
        brim_fail(err, BRIM_ARGUMENT,
                  "a copy of %lld bytes to %lld bytes, or within the staging area",
                  (long long)copy->from.bytes, (long long)copy->to.bytes);
        return false;
    }
    return place_range(l->device, &copy->from, &out->from, err) &&
           place_range(l->device, &copy->to, &out->to, err);
}

static bool prepare_record(loaded_program *l, int32_t i, brim_error *err) {
    const program_record *r = &l->p->record[i];
    prepared_record *out = &l->record[i];
    switch (r->kind) {
    case RECORD_LAUNCH:
        return prepare_launch(l, &r->as.launch, &out->as.launch, err);
    case RECORD_MATMUL:
        return cuda_matmul_prepare(l->device, &r->as.matmul, &out->as.product, err);
    case RECORD_COPY:
        return prepare_copy(l, &r->as.copy, &out->as.copy, err);
    case RECORD_FILL:
        return place_range(l->device, &r->as.fill.range, &out->as.fill, err);
    case RECORD_HOST:
        break;
    }
    brim_fail(err, BRIM_ARGUMENT, "a record of unknown kind %d", (int)r->kind);
    return false;
}

// An event for each record that another one waits for.
static bool prepare_events(loaded_program *l, const program_record *r, brim_error *err) {
    backend_device *d = l->device;
    for (int32_t w = 0; w < r->waits; w++) {
        CUevent *done = &l->record[r->wait[w]].done;
        if (!*done && !cuda_check(&d->cu, d->cu.event_create(done, CU_EVENT_DISABLE_TIMING),
                                  "cuEventCreate", err))
            return false;
    }
    return true;
}

static void prepare_records(loaded_program *l, brim_error *err) {
    for (int32_t i = 0; i < l->p->records; i++) {
        const program_record *r = &l->p->record[i];
        if (prepare_record(l, i, err) && prepare_events(l, r, err)) continue;
        brim_error_prefix(err, "record %d (%s)", i, r->label ? r->label : "unnamed");
        return;
    }
}

brim_status cuda_load(backend_device *d, const program *p, loaded_program **out, brim_error *err) {
    *out = NULL;
    if (failed(err)) return err->status;
    if (p->device_bytes > d->memory.device_bytes || p->host_bytes > d->memory.host_bytes)
        return brim_fail(
            err, BRIM_ARGUMENT,
            "the program needs %lld device and %lld staging bytes; %lld and %lld are reserved",
            (long long)p->device_bytes, (long long)p->host_bytes, (long long)d->memory.device_bytes,
            (long long)d->memory.host_bytes);
    CUcontext before;
    loaded_program *l = brim_calloc_array(1, sizeof *l, err);
    if (!l) return err->status;
    l->device = d;
    l->p = p;
    l->module = brim_calloc_array((size_t)p->kernels, sizeof *l->module, err);
    l->module_of = brim_calloc_array((size_t)p->kernels, sizeof *l->module_of, err);
    l->record = brim_calloc_array((size_t)p->records, sizeof *l->record, err);
    if (cuda_enter(d, &before, err)) {
        l->modules = cuda_modules_build(d, p->kernel, p->kernels, l->module, l->module_of, err);
        if (!failed(err)) prepare_records(l, err);
        cuda_leave(d, before);
    }
    if (failed(err)) {
        brim_error_prefix(err, "loading a program on %s", d->traits.name);
        cuda_unload(l);
        return err->status;
    }
    *out = l;
    return BRIM_OK;
}

static void release_record(loaded_program *l, int32_t i) {
    backend_device *d = l->device;
    prepared_record *record = &l->record[i];
    if (record->done) d->cu.event_destroy(record->done);
    if (l->p->record[i].kind == RECORD_MATMUL) cuda_matmul_release(d, &record->as.product);
    if (l->p->record[i].kind != RECORD_LAUNCH) return;
    free(record->as.launch.value);
    free(record->as.launch.address);
}

void cuda_unload(loaded_program *l) {
    if (!l) return;
    backend_device *d = l->device;
    brim_error ignored = {0}; // of a device that is lost
    CUcontext before = NULL;
    cuda_wait(d, &ignored);
    ignored = (brim_error){0};
    bool entered = cuda_enter(d, &before, &ignored);
    for (int32_t i = 0; i < l->p->records && l->record; i++) release_record(l, i);
    for (int32_t i = 0; i < l->modules; i++)
        if (l->module[i]) d->cu.module_unload(l->module[i]);
    if (entered) cuda_leave(d, before);
    if (d->last_run == l) d->last_run = NULL;
    free(l->module);
    free(l->module_of);
    free(l->record);
    free(l);
}

// ---- running ------------------------------------------------------------------------------------

static bool submit_launch(loaded_program *l, const launch_record *r, const prepared_launch *launch,
                          CUstream stream, brim_error *err) {
    backend_device *d = l->device;
    unsigned group = (unsigned)l->p->kernel[r->kernel].group;
    return cuda_check(&d->cu,
                      d->cu.launch_kernel(launch->function, (unsigned)r->grid[0],
                                          (unsigned)r->grid[1], (unsigned)r->grid[2], group, 1, 1,
                                          0, stream, launch->address, NULL),
                      "cuLaunchKernel", err);
}

static bool submit_copy(backend_device *d, const copy_record *copy, const prepared_copy *where,
                        int32_t micro_batch, CUstream stream, brim_error *err) {
    size_t bytes = (size_t)copy->from.bytes;
    if (where->from && where->to)
        return cuda_check(&d->cu, d->cu.memcpy_dtod_async(where->to, where->from, bytes, stream),
                          "cuMemcpyDtoDAsync", err);
    int64_t at =
        (where->from ? copy->to.offset : copy->from.offset) + copy->host_stride * micro_batch;
    if (at < 0 || at > d->memory.host_bytes - (int64_t)bytes) {
        brim_fail(err, BRIM_ARGUMENT, "micro-batch %d is outside the staging area", micro_batch);
        return false;
    }
    char *host = (char *)d->memory.host + at;
    return where->from
               ? cuda_check(&d->cu, d->cu.memcpy_dtoh_async(host, where->from, bytes, stream),
                            "cuMemcpyDtoHAsync", err)
               : cuda_check(&d->cu, d->cu.memcpy_htod_async(where->to, host, bytes, stream),
                            "cuMemcpyHtoDAsync", err);
}

static bool submit_record(loaded_program *l, int32_t i, int32_t micro_batch, CUstream stream,
                          brim_error *err) {
    backend_device *d = l->device;
    const program_record *r = &l->p->record[i];
    const prepared_record *prepared = &l->record[i];
    bool done = false;
    switch (r->kind) {
    case RECORD_LAUNCH:
        done = submit_launch(l, &r->as.launch, &prepared->as.launch, stream, err);
        break;
    case RECORD_MATMUL:
        done = cuda_matmul_enqueue(d, &prepared->as.product, stream, err);
        break;
    case RECORD_COPY:
        done = submit_copy(d, &r->as.copy, &prepared->as.copy, micro_batch, stream, err);
        break;
    case RECORD_FILL:
        done = cuda_check(&d->cu,
                          d->cu.memset_d32_async(prepared->as.fill, r->as.fill.pattern,
                                                 (size_t)r->as.fill.range.bytes / 4, stream),
                          "cuMemsetD32Async", err);
        break;
    case RECORD_HOST:
        break;
    }
    if (!done) brim_error_prefix(err, "record %d (%s)", i, r->label ? r->label : "unnamed");
    return done;
}

// An event that was never recorded holds nothing up: a record that has not run yet is not waited
// for.
static bool submit_in_order(loaded_program *l, int32_t i, int32_t micro_batch, brim_error *err) {
    backend_device *d = l->device;
    const program_record *r = &l->p->record[i];
    CUstream stream = d->queue[r->queue];
    for (int32_t w = 0; w < r->waits; w++) {
        CUresult status =
            d->cu.stream_wait_event(stream, l->record[r->wait[w]].done, CU_EVENT_WAIT_DEFAULT);
        if (!cuda_check(&d->cu, status, "cuStreamWaitEvent", err)) return false;
    }
    CUevent done = l->record[i].done;
    return submit_record(l, i, micro_batch, stream, err) &&
           (!done || cuda_check(&d->cu, d->cu.event_record(done, stream), "cuEventRecord", err));
}

// Records wait for records of their own program only: where another program ran last, each queue
// waits for all.
static void join_queues(backend_device *d, brim_error *err) {
    for (int q = 0; q < DEVICE_QUEUES && !failed(err); q++)
        cuda_check(&d->cu, d->cu.event_record(d->queue_end[q], d->queue[q]), "cuEventRecord", err);
    for (int q = 0; q < DEVICE_QUEUES; q++)
        for (int other = 0; other < DEVICE_QUEUES && !failed(err); other++)
            if (q != other)
                cuda_check(&d->cu,
                           d->cu.stream_wait_event(d->queue[q], d->queue_end[other],
                                                   CU_EVENT_WAIT_DEFAULT),
                           "cuStreamWaitEvent", err);
}

brim_status cuda_run(loaded_program *l, uint8_t section, int32_t micro_batch, brim_error *err) {
    backend_device *d = l->device;
    CUcontext before;
    if (!cuda_enter(d, &before, err)) return err->status;
    if (d->last_run && d->last_run != l) join_queues(d, err);
    d->last_run = l;
    for (int32_t i = 0; i < l->p->records && !failed(err); i++)
        if (l->p->record[i].sections & section) submit_in_order(l, i, micro_batch, err);
    cuda_leave(d, before);
    return err->status;
}

brim_status cuda_wait(backend_device *d, brim_error *err) {
    CUcontext before;
    if (!cuda_enter(d, &before, err)) return err->status;
    for (int q = 0; q < DEVICE_QUEUES && !failed(err); q++)
        cuda_check(&d->cu, d->cu.stream_synchronize(d->queue[q]), "cuStreamSynchronize", err);
    cuda_leave(d, before);
    return err->status;
}

// ---- profiling ----------------------------------------------------------------------------------

// Runs the section on one stream, an event before each record and one after the last.
static void submit_timed(loaded_program *l, uint8_t section, CUevent *event, brim_error *err) {
    backend_device *d = l->device;
    CUstream stream = d->queue[QUEUE_COMPUTE];
    for (int32_t i = 0; i < l->p->records && !failed(err); i++) {
        cuda_check(&d->cu, d->cu.event_record(event[i], stream), "cuEventRecord", err);
        if (!failed(err) && l->p->record[i].sections & section) submit_record(l, i, 0, stream, err);
    }
    if (!failed(err))
        cuda_check(&d->cu, d->cu.event_record(event[l->p->records], stream), "cuEventRecord", err);
    if (!failed(err))
        cuda_check(&d->cu, d->cu.stream_synchronize(stream), "cuStreamSynchronize", err);
}

static void profile_section(loaded_program *l, uint8_t section, double *seconds, brim_error *err) {
    backend_device *d = l->device;
    size_t events = (size_t)l->p->records + 1, made = 0;
    CUevent *event = brim_calloc_array(events, sizeof *event, err);
    if (!event) return;
    while (made < events && cuda_check(&d->cu, d->cu.event_create(&event[made], CU_EVENT_DEFAULT),
                                       "cuEventCreate", err))
        made++;
    if (!failed(err)) submit_timed(l, section, event, err);
    for (int32_t i = 0; i < l->p->records && !failed(err); i++) {
        float milliseconds = 0;
        cuda_check(&d->cu, d->cu.event_elapsed_time(&milliseconds, event[i], event[i + 1]),
                   "cuEventElapsedTime", err);
        seconds[i] = l->p->record[i].sections & section ? milliseconds * 1e-3 : 0;
    }
    for (size_t i = 0; i < made; i++) d->cu.event_destroy(event[i]);
    free(event);
}

brim_status cuda_profile(loaded_program *l, uint8_t section, double *seconds, brim_error *err) {
    CUcontext before;
    if (cuda_wait(l->device, err) || !cuda_enter(l->device, &before, err)) return err->status;
    l->device->last_run = l;
    profile_section(l, section, seconds, err);
    cuda_leave(l->device, before);
    return err->status;
}
