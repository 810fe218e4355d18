// Loading a program on an OpenCL device: everything that can be prepared is prepared here, so that
// a run only enqueues.
#include <stdlib.h>
#include <string.h>
#include "backends/opencl/program.h"
#include "backends/worker_pool.h"
#include "core/alloc.h"

// ---- loading: kernels ---------------------------------------------------------------------------

static bool same_module(const kernel_spec *a, const kernel_spec *b) {
    return strcmp(a->source, b->source) == 0 && strcmp(a->defines, b->defines) == 0;
}

// Modules are built side by side, which GPU drivers gain by. PoCL's compiler serves one call at a
// time.
typedef struct module_jobs {
    loaded_program *l;
    int32_t *kernel; // the first of each module
    brim_error *err; // of each job
} module_jobs;

static void build_one(void *context, int item) {
    const module_jobs *jobs = context;
    int32_t kernel = jobs->kernel[item];
    jobs->l->module[kernel] =
        opencl_module_build(jobs->l->device, &jobs->l->p->kernel[kernel], &jobs->err[item]);
}

static void build_listed(const module_jobs *jobs, int count, brim_error *err) {
    enum { MOST_THREADS = 8 };
    int most = jobs->l->device->host_is_device ? 1 : MOST_THREADS;
    worker_pool *pool = worker_pool_create(worker_pool_cores(most), err);
    if (!pool) return;
    worker_pool_run(pool, count, build_one, (void *)jobs);
    worker_pool_free(pool);
    for (int i = 0; i < count; i++) {
        if (failed(&jobs->err[i])) brim_fail(err, jobs->err[i].status, "%s", jobs->err[i].text);
    }
}

// The kernel that l's kernel i shares its module with: the first with the same text and defines.
static int32_t module_of(const loaded_program *l, int32_t i) {
    for (int32_t j = 0; j < i; j++) {
        if (same_module(&l->p->kernel[i], &l->p->kernel[j])) return j;
    }
    return i;
}

static bool build_modules(loaded_program *l, brim_error *err) {
    int32_t kernels = l->p->kernels, count = 0;
    module_jobs jobs = {l, brim_calloc_array((size_t)kernels, sizeof *jobs.kernel, err),
                        brim_calloc_array((size_t)kernels, sizeof *jobs.err, err)};
    for (int32_t i = 0; i < kernels && !failed(err); i++) {
        l->module_owned[i] = module_of(l, i) == i;
        if (l->module_owned[i]) jobs.kernel[count++] = i;
    }
    if (!failed(err)) build_listed(&jobs, count, err);
    for (int32_t i = 0; i < kernels && !failed(err); i++) l->module[i] = l->module[module_of(l, i)];
    free(jobs.kernel);
    free(jobs.err);
    return !failed(err);
}

// The driver may allow less for a kernel than the device does, once it knows its registers and
// local memory.
static bool check_group(backend_device *d, cl_kernel kernel, const kernel_spec *spec,
                        brim_error *err) {
    size_t group = 0;
    cl_ulong local = 0;
    d->cl.clGetKernelWorkGroupInfo(kernel, d->id, CL_KERNEL_WORK_GROUP_SIZE, sizeof group, &group,
                                   NULL);
    d->cl.clGetKernelWorkGroupInfo(kernel, d->id, CL_KERNEL_LOCAL_MEM_SIZE, sizeof local, &local,
                                   NULL);
    if (group == 0 || group > (size_t)d->traits.max_group) group = (size_t)d->traits.max_group;
    if (spec->group < 1 || (size_t)spec->group > group)
        brim_fail(err, BRIM_UNSUPPORTED,
                  "kernel %s wants groups of %d, %s runs it in groups of %zu at most", spec->name,
                  spec->group, d->traits.name, group);
    if ((int64_t)local > d->traits.local_bytes)
        brim_fail(err, BRIM_UNSUPPORTED, "kernel %s needs %llu bytes of local memory, %s has %lld",
                  spec->name, (unsigned long long)local, d->traits.name,
                  (long long)d->traits.local_bytes);
    return !failed(err);
}

static bool set_argument(backend_device *d, cl_kernel kernel, const kernel_argument *a,
                         cl_uint *index, int64_t *bytes, brim_error *err) {
    size_t size = a->kind == ARGUMENT_I64 ? sizeof a->as.i64 : sizeof a->as.i32;
    cl_int status;
    if (a->kind == ARGUMENT_BUFFER) {
        size_t within = 0;
        cl_mem chunk = NULL;
        if (a->as.offset >= 0) {
            chunk = opencl_chunk(d, a->as.offset, 0, &within, err);
            if (!chunk) return false;
        }
        cl_long offset = (cl_long)within;
        status = d->cl.clSetKernelArg(kernel, (*index)++, sizeof chunk, chunk ? &chunk : NULL);
        if (status == CL_SUCCESS)
            status = d->cl.clSetKernelArg(kernel, (*index)++, sizeof offset, &offset);
        size = sizeof chunk + sizeof offset;
    } else {
        status = d->cl.clSetKernelArg(kernel, (*index)++, size, &a->as);
    }
    *bytes += (int64_t)size;
    return opencl_check(status, "clSetKernelArg", err);
}

static bool set_arguments(backend_device *d, const launch_record *launch, cl_kernel kernel,
                          brim_error *err) {
    cl_uint index = 0, expected = 0;
    int64_t bytes = 0;
    for (int32_t i = 0; i < launch->arguments; i++) {
        if (set_argument(d, kernel, &launch->argument[i], &index, &bytes, err)) continue;
        brim_error_prefix(err, "argument %d", i);
        return false;
    }
    cl_int status =
        d->cl.clGetKernelInfo(kernel, CL_KERNEL_NUM_ARGS, sizeof expected, &expected, NULL);
    if (!opencl_check(status, "clGetKernelInfo", err)) return false;
    if (index != expected)
        brim_fail(err, BRIM_ARGUMENT, "%u arguments, the kernel takes %u", index, expected);
    else if (d->parameter_bytes > 0 && bytes > d->parameter_bytes)
        brim_fail(err, BRIM_UNSUPPORTED, "its arguments take %lld bytes, %s allows %lld",
                  (long long)bytes, d->traits.name, (long long)d->parameter_bytes);
    return !failed(err);
}

static bool prepare_launch(loaded_program *l, const launch_record *launch, prepared_launch *out,
                           brim_error *err) {
    backend_device *d = l->device;
    const kernel_spec *spec = &l->p->kernel[launch->kernel];
    cl_int status;
    out->kernel = d->cl.clCreateKernel(l->module[launch->kernel], spec->name, &status);
    if (!opencl_check(status, "clCreateKernel", err)) {
        brim_error_prefix(err, "kernel %s of %s", spec->name, spec->file);
        return false;
    }
    if (!check_group(d, out->kernel, spec, err)) return false;
    out->dims = launch->grid[2] > 1 ? 3 : launch->grid[1] > 1 ? 2 : 1;
    for (int i = 0; i < 3; i++) {
        out->local[i] = i == 0 ? (size_t)spec->group : 1;
        out->global[i] = (size_t)launch->grid[i] * out->local[i];
        if (launch->grid[i] > 0 && (d->address_bits > 32 || out->global[i] <= UINT32_MAX)) continue;
        brim_fail(err, BRIM_ARGUMENT, "a grid of %d groups in dimension %d", launch->grid[i], i);
        return false;
    }
    return set_arguments(d, launch, out->kernel, err);
}

// ---- loading: other records ---------------------------------------------------------------------

// Where one side of a copy is. The host space has a record's place of every micro-batch; the last
// is not known here.
static bool place_range(backend_device *d, const byte_range *range, cl_mem *out, size_t *at,
                        brim_error *err) {
    if (range->space == SPACE_DEVICE) {
        *out = opencl_chunk(d, range->offset, range->bytes, at, err);
        return *out != NULL;
    }
    int64_t host_bytes = d->memory.spaces.host_bytes;
    if (range->space != SPACE_HOST || range->offset < 0 || range->bytes < 0 ||
        range->offset > host_bytes || range->bytes > host_bytes - range->offset) {
        brim_fail(err, BRIM_ARGUMENT, "%lld bytes at %lld are outside the %s space of %lld",
                  (long long)range->bytes, (long long)range->offset, space_name(range->space),
                  (long long)host_bytes);
        return false;
    }
    *at = (size_t)range->offset;
    return true;
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
    return place_range(l->device, &copy->from, &out->from, &out->from_at, err) &&
           place_range(l->device, &copy->to, &out->to, &out->to_at, err);
}

static bool prepare_record(loaded_program *l, int32_t i, brim_error *err) {
    const program_record *r = &l->p->record[i];
    prepared_record *out = &l->record[i];
    switch (r->kind) {
    case RECORD_LAUNCH:
        return prepare_launch(l, &r->as.launch, &out->as.launch, err);
    case RECORD_MATMUL:
        return opencl_matmul_prepare(l->device, &r->as.matmul, &out->as.product, err);
    case RECORD_COPY:
        return prepare_copy(l, &r->as.copy, &out->as.copy, err);
    case RECORD_FILL:
        return place_range(l->device, &r->as.fill.range, &out->as.fill.chunk, &out->as.fill.at,
                           err);
    case RECORD_HOST:
        break;
    }
    brim_fail(err, BRIM_ARGUMENT, "a record of unknown kind %d", (int)r->kind);
    return false;
}

static void prepare_records(loaded_program *l, brim_error *err) {
    for (int32_t i = 0; i < l->p->records; i++) {
        const program_record *r = &l->p->record[i];
        if (!is_task(&l->host, i) && !prepare_record(l, i, err)) {
            brim_error_prefix(err, "record %d (%s)", i, r->label);
            return;
        }
        bool task = is_task(&l->host, i);
        for (int32_t w = 0; w < r->waits && (task || l->device->separate_queues); w++)
            l->record[r->wait[w]].signals = true;
    }
}

brim_status opencl_load(backend_device *d, const program *p, loaded_program **out,
                        brim_error *err) {
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
    loaded_program *l = brim_calloc(sizeof *l, err);
    if (!l) return err->status;
    l->device = d;
    l->p = p;
    size_t records = (size_t)p->records, kernels = (size_t)p->kernels, waits = DEVICE_QUEUES;
    for (size_t i = 0; i < records; i++) waits += (size_t)p->record[i].waits;
    l->module = brim_calloc_array(kernels, sizeof *l->module, err);
    l->module_owned = brim_calloc_array(kernels, sizeof *l->module_owned, err);
    l->record = brim_calloc_array(records, sizeof *l->record, err);
    l->event = brim_calloc_array(records, sizeof *l->event, err);
    l->wait = brim_calloc_array(waits, sizeof *l->wait, err);
    if (!failed(err) && !host_records_load(&l->host, d->tasks, p, spaces, err) &&
        build_modules(l, err))
        prepare_records(l, err);
    if (failed(err)) {
        brim_error_prefix(err, "loading a program on %s", d->traits.name);
        opencl_unload(l);
        return err->status;
    }
    *out = l;
    return BRIM_OK;
}

void opencl_release_events(loaded_program *l) {
    for (int32_t i = 0; i < l->p->records; i++) {
        if (l->event[i]) l->device->cl.clReleaseEvent(l->event[i]);
        l->event[i] = NULL;
    }
}

void opencl_unload(loaded_program *l) {
    if (!l) return;
    backend_device *d = l->device;
    brim_error ignored = {0};
    opencl_finish(d, &ignored);
    if (d->last_run == l) d->last_run = NULL;
    if (l->event) opencl_release_events(l);
    opencl_timing_free(l);
    for (int32_t i = 0; l->record && i < l->p->records; i++) {
        prepared_record *r = &l->record[i];
        if (l->p->record[i].kind == RECORD_LAUNCH && r->as.launch.kernel)
            d->cl.clReleaseKernel(r->as.launch.kernel);
    }
    for (int32_t i = 0; l->module && l->module_owned && i < l->p->kernels; i++) {
        if (l->module_owned[i] && l->module[i]) d->cl.clReleaseProgram(l->module[i]);
    }
    if (l->profiling) d->cl.clReleaseCommandQueue(l->profiling);
    free(l->module);
    free(l->module_owned);
    free(l->record);
    host_records_free(&l->host);
    free(l->event);
    free(l->wait);
    free(l);
}
