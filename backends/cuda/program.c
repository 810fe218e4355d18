// Loading a program on a CUDA device: everything that can be prepared is prepared here, so that a
// run only submits.
#include <stdlib.h>
#include <string.h>
#include "backends/cuda/program.h"
#include "core/alloc.h"

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

// One side of a copy. The host space has a record's place of every micro-batch; the last is not
// known here.
static bool place_range(backend_device *d, const byte_range *range, CUdeviceptr *out,
                        brim_error *err) {
    if (range->space == SPACE_DEVICE) return cuda_address(d, range->offset, range->bytes, out, err);
    *out = 0;
    int64_t host_bytes = d->memory.spaces.host_bytes;
    if (range->space == SPACE_HOST && range->offset >= 0 && range->bytes >= 0 &&
        range->offset <= host_bytes && range->bytes <= host_bytes - range->offset)
        return true;
    brim_fail(err, BRIM_ARGUMENT, "%lld bytes at %lld are outside the %s space of %lld",
              (long long)range->bytes, (long long)range->offset, space_name(range->space),
              (long long)host_bytes);
    return false;
}

static bool prepare_copy(loaded_program *l, const copy_record *copy, prepared_copy *out,
                         brim_error *err) {
    if (copy->from.bytes != copy->to.bytes ||
        (copy->from.space == SPACE_HOST && copy->to.space == SPACE_HOST)) {
        brim_fail(err, BRIM_ARGUMENT,
                  "a copy of %lld bytes to %lld bytes, or within the host space",
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

// A copy of a host space that is not pinned: the task of a thread of ours.
static bool prepare_pass(loaded_program *l, int32_t i, brim_error *err) {
    const program_record *r = &l->p->record[i];
    const prepared_copy *where = &l->record[i].as.copy;
    if (r->kind != RECORD_COPY || l->device->memory.pinned || (where->from && where->to))
        return true;
    host_work work = {.run = cuda_pass, .what = cuda_pass_of(l, i, err)};
    l->passes = true;
    return !host_records_add(&l->host, i, &work, err);
}

// An event for each record that another one waits for, both of them the device's.
static bool prepare_events(loaded_program *l, int32_t i, brim_error *err) {
    backend_device *d = l->device;
    const program_record *r = &l->p->record[i];
    for (int32_t w = 0; w < r->waits; w++) {
        prepared_record *awaited = &l->record[r->wait[w]];
        if (is_task(&l->host, r->wait[w])) continue;
        if (is_task(&l->host, i))
            awaited->reports = true;
        else if (!awaited->done &&
                 !cuda_check(&d->cu, d->cu.event_create(&awaited->done, CU_EVENT_DISABLE_TIMING),
                             "cuEventCreate", err))
            return false;
    }
    return true;
}

// All records, before the events: a wait may be for a later one.
static void prepare_records(loaded_program *l, brim_error *err) {
    for (int32_t i = 0; i < 2 * l->p->records; i++) {
        int32_t record = i % l->p->records;
        const char *label = l->p->record[record].label;
        bool first = i < l->p->records;
        if (first && is_task(&l->host, record)) continue;
        if (first ? prepare_record(l, record, err) && prepare_pass(l, record, err)
                  : prepare_events(l, record, err))
            continue;
        brim_error_prefix(err, "record %d (%s)", record, label);
        return;
    }
}

static int32_t most_waits(const program *p) {
    int32_t most = 0;
    for (int32_t i = 0; i < p->records; i++)
        if (p->record[i].waits > most) most = p->record[i].waits;
    return most;
}

brim_status cuda_load(backend_device *d, const program *p, loaded_program **out, brim_error *err) {
    *out = NULL;
    if (failed(err)) return err->status;
    const host_spaces *spaces = &d->memory.spaces;
    if (p->device_bytes > d->memory.device_bytes || p->host_bytes > spaces->host_bytes ||
        p->file_bytes > spaces->file.bytes)
        return brim_fail(err, BRIM_ARGUMENT,
                         "the program needs %lld device, %lld host and %lld file bytes; %lld, %lld "
                         "and %lld are reserved",
                         (long long)p->device_bytes, (long long)p->host_bytes,
                         (long long)p->file_bytes, (long long)d->memory.device_bytes,
                         (long long)spaces->host_bytes, (long long)spaces->file.bytes);
    CUcontext before;
    loaded_program *l = brim_calloc(sizeof *l, err);
    if (!l) return err->status;
    l->device = d;
    l->p = p;
    l->module = brim_calloc_array((size_t)p->kernels, sizeof *l->module, err);
    l->module_of = brim_calloc_array((size_t)p->kernels, sizeof *l->module_of, err);
    l->record = brim_calloc_array((size_t)p->records, sizeof *l->record, err);
    l->latest = brim_calloc_array((size_t)p->records, sizeof *l->latest, err);
    l->event = brim_calloc_array((size_t)most_waits(p) + 1, sizeof *l->event, err);
    host_records_load(&l->host, d->tasks, p, spaces, err);
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
    cuda_finish(d, &ignored);
    ignored = (brim_error){0};
    bool entered = cuda_enter(d, &before, &ignored);
    for (int32_t i = 0; i < l->p->records && l->record; i++) release_record(l, i);
    for (int32_t i = 0; i < l->p->records && l->latest; i++)
        run_event_release(&d->events, l->latest[i]);
    for (int32_t i = 0; i < l->modules; i++)
        if (l->module[i]) d->cu.module_unload(l->module[i]);
    cuda_timing_free(l);
    if (entered) cuda_leave(d, before);
    if (d->last_run == l) d->last_run = NULL;
    free(l->module);
    free(l->module_of);
    free(l->record);
    free(l->latest);
    free(l->event);
    host_records_free(&l->host);
    free(l);
}
