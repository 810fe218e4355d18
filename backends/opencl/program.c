// A program on an OpenCL device: everything that can be prepared is prepared by load, so that a run
// only enqueues.
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "backends/opencl/device.h"
#include "backends/worker_pool.h"
#include "core/alloc.h"

typedef struct prepared_launch {
    cl_kernel kernel; // with its arguments set
    cl_uint dims;
    size_t global[3], local[3];
} prepared_launch;

typedef struct prepared_copy {
    cl_mem from, to; // NULL: the staging area
    size_t from_at, to_at;
} prepared_copy;

typedef struct prepared_record {
    bool signals; // a record of another queue waits for it
    union {
        prepared_launch launch;
        opencl_product product;
        prepared_copy copy;
        struct {
            cl_mem chunk;
            size_t at;
        } fill;
    } as;
} prepared_record;

struct loaded_program {
    backend_device *device;
    const program *p;
    cl_program
        *module; // by kernel of the program; those with one text and one set of defines share one
    bool *module_owned;
    prepared_record *record;
    cl_event *event;            // of the records that signal: their latest run
    cl_event *wait;             // scratch: a record's list
    cl_command_queue profiling; // made when it is first asked for
};

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
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    int threads = cores < 1 || jobs->l->device->host_is_device ? 1 : (int)cores;
    if (threads > MOST_THREADS) threads = MOST_THREADS;
    worker_pool *pool = worker_pool_create(threads, err);
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

// Where one side of a copy is. The staging area has a record's place of every micro-batch; the last
// is not known here.
static bool place_range(backend_device *d, const byte_range *range, cl_mem *out, size_t *at,
                        brim_error *err) {
    if (range->space == SPACE_DEVICE) {
        *out = opencl_chunk(d, range->offset, range->bytes, at, err);
        return *out != NULL;
    }
    if (range->offset < 0 || range->bytes < 0 || range->offset > d->memory.host_bytes ||
        range->bytes > d->memory.host_bytes - range->offset) {
        brim_fail(err, BRIM_ARGUMENT, "%lld bytes at %lld are outside the staging area of %lld",
                  (long long)range->bytes, (long long)range->offset,
                  (long long)d->memory.host_bytes);
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
                  "a copy of %lld bytes to %lld bytes, or within the staging area",
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
        if (!prepare_record(l, i, err)) {
            brim_error_prefix(err, "record %d (%s)", i, r->label ? r->label : "unnamed");
            return;
        }
        for (int32_t w = 0; w < r->waits && l->device->separate_queues; w++)
            l->record[r->wait[w]].signals = true;
    }
}

brim_status opencl_load(backend_device *d, const program *p, loaded_program **out,
                        brim_error *err) {
    *out = NULL;
    if (failed(err)) return err->status;
    if (p->device_bytes > d->memory.device_bytes || p->host_bytes > d->memory.host_bytes)
        return brim_fail(
            err, BRIM_ARGUMENT,
            "the program needs %lld device and %lld staging bytes; %lld and %lld are reserved",
            (long long)p->device_bytes, (long long)p->host_bytes, (long long)d->memory.device_bytes,
            (long long)d->memory.host_bytes);
    loaded_program *l = brim_calloc_array(1, sizeof *l, err);
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
    if (!failed(err) && build_modules(l, err)) prepare_records(l, err);
    if (failed(err)) {
        brim_error_prefix(err, "loading a program on %s", d->traits.name);
        opencl_unload(l);
        return err->status;
    }
    *out = l;
    return BRIM_OK;
}

static void release_events(loaded_program *l) {
    for (int32_t i = 0; i < l->p->records; i++) {
        if (l->event[i]) l->device->cl.clReleaseEvent(l->event[i]);
        l->event[i] = NULL;
    }
}

void opencl_unload(loaded_program *l) {
    if (!l) return;
    backend_device *d = l->device;
    brim_error ignored = {0};
    opencl_wait(d, &ignored);
    if (d->last_run == l) d->last_run = NULL;
    if (l->event) release_events(l);
    for (int32_t i = 0; l->record && i < l->p->records; i++) {
        prepared_record *r = &l->record[i];
        record_kind kind = l->p->record[i].kind;
        if (kind == RECORD_LAUNCH && r->as.launch.kernel)
            d->cl.clReleaseKernel(r->as.launch.kernel);
        if (kind == RECORD_MATMUL) opencl_matmul_release(d, &r->as.product);
    }
    for (int32_t i = 0; l->module && l->module_owned && i < l->p->kernels; i++) {
        if (l->module_owned[i] && l->module[i]) d->cl.clReleaseProgram(l->module[i]);
    }
    if (l->profiling) d->cl.clReleaseCommandQueue(l->profiling);
    free(l->module);
    free(l->module_owned);
    free(l->record);
    free(l->event);
    free(l->wait);
    free(l);
}

// ---- running ------------------------------------------------------------------------------------

// Where and after what a record is enqueued.
typedef struct submission {
    cl_command_queue queue;
    cl_uint waits;
    const cl_event *wait;
    cl_event *event;
    int32_t micro_batch;
} submission;

static bool enqueue_launch(backend_device *d, const prepared_launch *launch, const submission *s,
                           brim_error *err) {
    cl_int status =
        d->cl.clEnqueueNDRangeKernel(s->queue, launch->kernel, launch->dims, NULL, launch->global,
                                     launch->local, s->waits, s->wait, s->event);
    return opencl_check(status, "clEnqueueNDRangeKernel", err);
}

static bool enqueue_copy(backend_device *d, const copy_record *copy, const prepared_copy *where,
                         const submission *s, brim_error *err) {
    size_t bytes = (size_t)copy->from.bytes;
    if (where->from && where->to) {
        return opencl_check(d->cl.clEnqueueCopyBuffer(s->queue, where->from, where->to,
                                                      where->from_at, where->to_at, bytes, s->waits,
                                                      s->wait, s->event),
                            "clEnqueueCopyBuffer", err);
    }
    int64_t at =
        (int64_t)(where->from ? where->to_at : where->from_at) + copy->host_stride * s->micro_batch;
    if (at < 0 || at > d->memory.host_bytes - (int64_t)bytes) {
        brim_fail(err, BRIM_ARGUMENT, "micro-batch %d is outside the staging area", s->micro_batch);
        return false;
    }
    char *host = (char *)d->memory.host + at;
    cl_int status = where->from
                        ? d->cl.clEnqueueReadBuffer(s->queue, where->from, CL_FALSE, where->from_at,
                                                    bytes, host, s->waits, s->wait, s->event)
                        : d->cl.clEnqueueWriteBuffer(s->queue, where->to, CL_FALSE, where->to_at,
                                                     bytes, host, s->waits, s->wait, s->event);
    return opencl_check(status, where->from ? "clEnqueueReadBuffer" : "clEnqueueWriteBuffer", err);
}

static bool enqueue_record(loaded_program *l, int32_t i, const submission *s, brim_error *err) {
    backend_device *d = l->device;
    const program_record *r = &l->p->record[i];
    const prepared_record *prepared = &l->record[i];
    bool done = false;
    switch (r->kind) {
    case RECORD_LAUNCH:
        done = enqueue_launch(d, &prepared->as.launch, s, err);
        break;
    case RECORD_MATMUL:
        done = opencl_matmul_enqueue(d, &prepared->as.product, s->queue, s->waits, s->wait,
                                     s->event, err);
        break;
    case RECORD_COPY:
        done = enqueue_copy(d, &r->as.copy, &prepared->as.copy, s, err);
        break;
    case RECORD_FILL:
        done = opencl_check(d->cl.clEnqueueFillBuffer(s->queue, prepared->as.fill.chunk,
                                                      &r->as.fill.pattern, 4, prepared->as.fill.at,
                                                      (size_t)r->as.fill.range.bytes, s->waits,
                                                      s->wait, s->event),
                            "clEnqueueFillBuffer", err);
        break;
    case RECORD_HOST:
        break;
    }
    if (!done) brim_error_prefix(err, "record %d (%s)", i, r->label ? r->label : "unnamed");
    return done;
}

static cl_uint gather_waits(loaded_program *l, const program_record *r) {
    cl_uint count = 0;
    for (int32_t w = 0; w < r->waits; w++) {
        if (l->event[r->wait[w]]) l->wait[count++] = l->event[r->wait[w]];
    }
    return count;
}

// Records wait for records of their own program only: where another program ran last, each queue
// waits for all.
static void join_queues(backend_device *d, brim_error *err) {
    cl_event end[DEVICE_QUEUES] = {NULL};
    for (int q = 0; q < DEVICE_QUEUES && !failed(err); q++)
        opencl_check(d->cl.clEnqueueMarkerWithWaitList(d->queue[q], 0, NULL, &end[q]),
                     "clEnqueueMarkerWithWaitList", err);
    for (int q = 0; q < DEVICE_QUEUES && !failed(err); q++)
        opencl_check(d->cl.clEnqueueMarkerWithWaitList(d->queue[q], DEVICE_QUEUES, end, NULL),
                     "clEnqueueMarkerWithWaitList", err);
    for (int q = 0; q < DEVICE_QUEUES; q++) {
        if (end[q]) d->cl.clReleaseEvent(end[q]);
    }
}

static void run_on_one_queue(loaded_program *l, uint8_t section, int32_t micro_batch,
                             brim_error *err) {
    submission s = {.queue = l->device->queue[QUEUE_COMPUTE], .micro_batch = micro_batch};
    for (int32_t i = 0; i < l->p->records; i++) {
        if (!(l->p->record[i].sections & section)) continue;
        if (!enqueue_record(l, i, &s, err)) return;
    }
}

static void run_on_queues(loaded_program *l, uint8_t section, int32_t micro_batch,
                          brim_error *err) {
    backend_device *d = l->device;
    if (d->last_run && d->last_run != l) join_queues(d, err);
    d->last_run = l;
    for (int32_t i = 0; i < l->p->records && !failed(err); i++) {
        const program_record *r = &l->p->record[i];
        if (!(r->sections & section)) continue;
        cl_event done = NULL;
        submission s = {.queue = d->queue[r->queue], .micro_batch = micro_batch};
        s.waits = gather_waits(l, r);
        s.wait = s.waits ? l->wait : NULL;
        s.event = l->record[i].signals ? &done : NULL;
        enqueue_record(l, i, &s, err);
        if (!done) continue;
        if (l->event[i]) d->cl.clReleaseEvent(l->event[i]);
        l->event[i] = done;
    }
}

brim_status opencl_run(loaded_program *l, uint8_t section, int32_t micro_batch, brim_error *err) {
    if (failed(err)) return err->status;
    backend_device *d = l->device;
    if (d->separate_queues)
        run_on_queues(l, section, micro_batch, err);
    else
        run_on_one_queue(l, section, micro_batch, err);
    for (int q = 0; q < DEVICE_QUEUES; q++) {
        if (q == 0 || d->separate_queues) opencl_check(d->cl.clFlush(d->queue[q]), "clFlush", err);
    }
    return err->status;
}

brim_status opencl_wait(backend_device *d, brim_error *err) {
    if (failed(err)) return err->status;
    for (int q = 0; q < DEVICE_QUEUES; q++) {
        if (q > 0 && !d->separate_queues) continue;
        if (!opencl_check(d->cl.clFinish(d->queue[q]), "clFinish", err)) return err->status;
    }
    return BRIM_OK;
}

// ---- profiling ----------------------------------------------------------------------------------

static bool event_seconds(backend_device *d, cl_event event, double *seconds, brim_error *err) {
    cl_ulong start = 0, end = 0;
    cl_int status = d->cl.clGetEventProfilingInfo(event, CL_PROFILING_COMMAND_START, sizeof start,
                                                  &start, NULL);
    if (status == CL_SUCCESS)
        status =
            d->cl.clGetEventProfilingInfo(event, CL_PROFILING_COMMAND_END, sizeof end, &end, NULL);
    *seconds = end > start ? (double)(end - start) * 1e-9 : 0;
    return opencl_check(status, "clGetEventProfilingInfo", err);
}

// All records on one queue, which is a valid order whatever queues they name.
brim_status opencl_profile(loaded_program *l, uint8_t section, double *seconds, brim_error *err) {
    backend_device *d = l->device;
    if (opencl_wait(d, err) != BRIM_OK) return err->status;
    cl_int status = CL_SUCCESS;
    if (!l->profiling)
        l->profiling =
            d->cl.clCreateCommandQueue(d->context, d->id, CL_QUEUE_PROFILING_ENABLE, &status);
    if (!opencl_check(status, "clCreateCommandQueue (profiling)", err)) return err->status;
    release_events(l);
    memset(seconds, 0, (size_t)l->p->records * sizeof *seconds);
    for (int32_t i = 0; i < l->p->records && !failed(err); i++) {
        submission s = {.queue = l->profiling, .event = &l->event[i]};
        if (l->p->record[i].sections & section) enqueue_record(l, i, &s, err);
    }
    opencl_check(d->cl.clFinish(l->profiling), "clFinish", err);
    for (int32_t i = 0; i < l->p->records && !failed(err); i++) {
        if (l->event[i]) event_seconds(d, l->event[i], &seconds[i], err);
    }
    release_events(l);
    return err->status;
}
