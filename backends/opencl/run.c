// Running a loaded program on an OpenCL device.
#include <stdlib.h>
#include <string.h>
#include "backends/opencl/program.h"
#include "core/alloc.h"
#include "core/clock.h"

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
    if (at < 0 || at > d->memory.spaces.host_bytes - (int64_t)bytes) {
        brim_fail(err, BRIM_ARGUMENT, "micro-batch %d is outside the host space", s->micro_batch);
        return false;
    }
    char *host = d->memory.spaces.host + at;
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
    if (!done) brim_error_prefix(err, "record %d (%s)", i, r->label);
    return done;
}

// The events that a record waits for, of these queues.
static cl_uint gather_waits(loaded_program *l, const program_record *r, int first, int end) {
    cl_uint count = 0;
    for (int32_t w = 0; w < r->waits; w++) {
        queue_id queue = l->p->record[r->wait[w]].queue;
        cl_event event = l->event[r->wait[w]];
        if (event && (int)queue >= first && (int)queue < end) l->wait[count++] = event;
    }
    return count;
}

static cl_uint gather_all_waits(loaded_program *l, const program_record *r) {
    return gather_waits(l, r, 0, QUEUE_COUNT);
}

// ---- the device and our threads -----------------------------------------------------------------

void opencl_await_event(void *device, void *event, brim_error *err) {
    const backend_device *d = device;
    cl_event one = event;
    opencl_check(d->cl.clWaitForEvents(1, &one), "clWaitForEvents", err);
}

void opencl_release_event(void *device, void *event) {
    const backend_device *d = device;
    d->cl.clReleaseEvent(event);
}

static void flush(backend_device *d, brim_error *err) {
    for (int q = 0; q < DEVICE_QUEUES; q++) {
        if (q == 0 || d->separate_queues) opencl_check(d->cl.clFlush(d->queue[q]), "clFlush", err);
    }
}

// Holds what a task waits for until it is done.
static bool hold_events(loaded_program *l, cl_uint events, brim_error *err) {
    backend_device *d = l->device;
    cl_uint held = 0;
    while (held < events && opencl_check(d->cl.clRetainEvent(l->wait[held]), "clRetainEvent", err))
        held++;
    if (held == events) return true;
    for (cl_uint e = 0; e < held; e++) d->cl.clReleaseEvent(l->wait[e]);
    return false;
}

// The device's records that a task waits for are on their way before it is submitted: a driver may
// keep what was not flushed.
static void submit_task(loaded_program *l, int32_t i, int32_t micro_batch, brim_error *err) {
    backend_device *d = l->device;
    int64_t after[QUEUE_COUNT];
    cl_uint events = gather_all_waits(l, &l->p->record[i]);
    if (events) flush(d, err);
    if (failed(err) || !hold_events(l, events, err)) return;
    host_records_awaited(&l->host, i, after);
    host_records_submit(&l->host, i, micro_batch, after, (void *const *)l->wait, (int32_t)events,
                        err);
}

// A record of the device is submitted only when the tasks that it waits for are done. What was
// submitted before goes on meanwhile.
static void await_tasks(loaded_program *l, int32_t i, brim_error *err) {
    int64_t after[QUEUE_COUNT];
    bool waited = false;
    if (!l->host.tasks) return;
    host_records_awaited(&l->host, i, after);
    for (int q = 0; q < QUEUE_COUNT && !failed(err); q++) {
        if (host_queues_done(l->host.queues, (queue_id)q, after[q])) continue;
        if (!waited) opencl_time_mark(l, QUEUE_COMPUTE, 0, NULL, err);
        waited = true;
        flush(l->device, err);
        host_queues_await(l->host.queues, (queue_id)q, after[q], err);
        opencl_time_mark(l, (queue_id)q, 0, NULL, err);
    }
}

// ---- queues -------------------------------------------------------------------------------------

// Each of the device's queues waits for all.
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

// Records wait for records of their own program only: where another program ran last, all that it
// submitted comes first.
static void take_turn(loaded_program *l, brim_error *err) {
    backend_device *d = l->device;
    const loaded_program *last = d->last_run;
    if (last && last != l) {
        if (last->host.tasks || l->host.tasks)
            opencl_finish(d, err);
        else if (d->separate_queues)
            join_queues(d, err);
    }
    d->last_run = l;
}

static void time_waits(loaded_program *l, const program_record *r, brim_error *err) {
    if (!l->timing.on || r->queue != QUEUE_COMPUTE || !gather_all_waits(l, r)) return;
    opencl_time_mark(l, QUEUE_COMPUTE, 0, NULL, err);
    for (int q = QUEUE_COMPUTE + 1; q < DEVICE_QUEUES; q++) {
        cl_uint events = gather_waits(l, r, q, q + 1);
        if (events) opencl_time_mark(l, (queue_id)q, events, l->wait, err);
    }
}

static void submit_record(loaded_program *l, int32_t i, int32_t micro_batch, brim_error *err) {
    backend_device *d = l->device;
    const program_record *r = &l->p->record[i];
    cl_event done = NULL;
    submission s = {.queue = d->queue[r->queue], .micro_batch = micro_batch};
    await_tasks(l, i, err);
    if (d->separate_queues) time_waits(l, r, err);
    if (failed(err)) return;
    bool timed = l->timing.on && r->queue != QUEUE_COMPUTE, signals = l->record[i].signals;
    if (d->separate_queues) s.waits = gather_all_waits(l, r);
    s.wait = s.waits ? l->wait : NULL;
    s.event = signals || timed ? &done : NULL;
    enqueue_record(l, i, &s, err);
    if (!done) return;
    if (timed) opencl_time_copy(l, r->queue, done, err);
    cl_event unused = signals ? l->event[i] : done;
    if (unused) d->cl.clReleaseEvent(unused);
    if (signals) l->event[i] = done;
}

brim_status opencl_run(loaded_program *l, uint8_t section, int32_t micro_batch, brim_error *err) {
    if (failed(err) || host_queues_check(l->device->tasks, err)) return err->status;
    take_turn(l, err);
    opencl_time_run(l, err);
    for (int32_t i = 0; i < l->p->records && !failed(err); i++) {
        if (!(l->p->record[i].sections & section)) continue;
        if (is_task(&l->host, i))
            submit_task(l, i, micro_batch, err);
        else
            submit_record(l, i, micro_batch, err);
    }
    opencl_time_mark(l, QUEUE_COMPUTE, 0, NULL, err);
    flush(l->device, err);
    return err->status;
}

brim_status opencl_wait(backend_device *d, brim_error *err) {
    if (failed(err)) return err->status;
    for (int q = 0; q < DEVICE_QUEUES; q++) {
        if (q > 0 && !d->separate_queues) continue;
        if (!opencl_check(d->cl.clFinish(d->queue[q]), "clFinish", err)) return err->status;
    }
    return host_queues_check(d->tasks, err);
}

// Whatever fails, no task is left behind: its program may be gone next.
brim_status opencl_finish(backend_device *d, brim_error *err) {
    opencl_wait(d, err);
    return host_queues_drain(d->tasks, 0, QUEUE_COUNT, err);
}

// ---- profiling ----------------------------------------------------------------------------------

static bool moment(backend_device *d, cl_event event, cl_profiling_info which, double *seconds,
                   brim_error *err) {
    cl_ulong at = 0;
    cl_int status = d->cl.clGetEventProfilingInfo(event, which, sizeof at, &at, NULL);
    *seconds = (double)at * 1e-9;
    return opencl_check(status, "clGetEventProfilingInfo", err);
}

// From the end of `begin`, where there is one, else from the start of `event`, to the end of that.
static void event_seconds(backend_device *d, cl_event begin, cl_event event, double *seconds,
                          brim_error *err) {
    double start, end;
    cl_profiling_info from = begin ? CL_PROFILING_COMMAND_END : CL_PROFILING_COMMAND_START;
    if (moment(d, begin ? begin : event, from, &start, err) &&
        moment(d, event, CL_PROFILING_COMMAND_END, &end, err))
        *seconds = end > start ? end - start : 0;
}

// A product of CLBlast is several commands, and its event is that of the last.
static bool several_commands(const loaded_program *l, int32_t i) {
    return l->p->record[i].kind == RECORD_MATMUL && !l->device->matmul.native;
}

static void time_task(loaded_program *l, int32_t i, double *seconds, brim_error *err) {
    opencl_check(l->device->cl.clFinish(l->profiling), "clFinish", err);
    double start = clock_seconds();
    host_records_run(&l->host, i, 0, err);
    *seconds = clock_seconds() - start;
}

static void profile_record(loaded_program *l, int32_t i, cl_event *begin, brim_error *err) {
    submission s = {.queue = l->profiling, .event = &l->event[i]};
    if (several_commands(l, i)) {
        cl_int status = l->device->cl.clEnqueueMarkerWithWaitList(s.queue, 0, NULL, begin);
        if (!opencl_check(status, "clEnqueueMarkerWithWaitList", err)) return;
    }
    enqueue_record(l, i, &s, err);
}

// All records on one queue, which is a valid order whatever queues they name.
static void profile_records(loaded_program *l, uint8_t section, cl_event *begin, double *seconds,
                            brim_error *err) {
    backend_device *d = l->device;
    for (int32_t i = 0; i < l->p->records && !failed(err); i++) {
        if (!(l->p->record[i].sections & section)) continue;
        if (is_task(&l->host, i))
            time_task(l, i, &seconds[i], err);
        else
            profile_record(l, i, &begin[i], err);
    }
    opencl_check(d->cl.clFinish(l->profiling), "clFinish", err);
    for (int32_t i = 0; i < l->p->records && !failed(err); i++) {
        if (l->event[i]) event_seconds(d, begin[i], l->event[i], &seconds[i], err);
    }
    for (int32_t i = 0; i < l->p->records; i++) {
        if (begin[i]) d->cl.clReleaseEvent(begin[i]);
    }
    opencl_release_events(l);
}

brim_status opencl_profile(loaded_program *l, uint8_t section, double *seconds, brim_error *err) {
    backend_device *d = l->device;
    if (opencl_finish(d, err) != BRIM_OK) return err->status;
    cl_int status = CL_SUCCESS;
    if (!l->profiling)
        l->profiling =
            d->cl.clCreateCommandQueue(d->context, d->id, CL_QUEUE_PROFILING_ENABLE, &status);
    if (!opencl_check(status, "clCreateCommandQueue (profiling)", err)) return err->status;
    opencl_release_events(l);
    memset(seconds, 0, (size_t)l->p->records * sizeof *seconds);
    cl_event *begin = brim_calloc_array((size_t)l->p->records, sizeof *begin, err);
    if (begin) profile_records(l, section, begin, seconds, err);
    free(begin);
    return err->status;
}

// ---- one record after another -------------------------------------------------------------------

static void run_alone(loaded_program *l, int32_t i, int32_t micro_batch, brim_error *err) {
    submission s = {.queue = l->device->queue[QUEUE_COMPUTE], .micro_batch = micro_batch};
    if (is_task(&l->host, i))
        host_records_run(&l->host, i, micro_batch, err);
    else if (enqueue_record(l, i, &s, err))
        opencl_check(l->device->cl.clFinish(s.queue), "clFinish", err);
}

brim_status opencl_step_through(loaded_program *l, uint8_t section, int32_t micro_batch,
                                const record_watcher *watcher, brim_error *err) {
    if (opencl_finish(l->device, err)) return err->status;
    l->device->last_run = l;
    for (int32_t i = 0; i < l->p->records && !failed(err); i++) {
        if (!(l->p->record[i].sections & section)) continue;
        run_alone(l, i, micro_batch, err);
        if (watcher && !failed(err)) watcher->done(watcher->user, i, err);
    }
    return err->status;
}
