// Running a loaded program on a CUDA device.
#include <stdlib.h>
#include <string.h>
#include "backends/cuda/program.h"
#include "core/alloc.h"
#include "core/clock.h"

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

// The host side of a copy; NULL, with err set, where it has none for that micro-batch.
static char *host_side(const backend_device *d, const copy_record *copy, int32_t micro_batch,
                       brim_error *err) {
    const byte_range *host = copy->from.space == SPACE_HOST ? &copy->from : &copy->to;
    int64_t at = host->offset + copy->host_stride * micro_batch;
    if (at >= 0 && at <= d->memory.spaces.host_bytes - host->bytes)
        return d->memory.spaces.host + at;
    brim_fail(err, BRIM_ARGUMENT, "micro-batch %d is outside the host space", micro_batch);
    return NULL;
}

static bool submit_copy(backend_device *d, const copy_record *copy, const prepared_copy *where,
                        int32_t micro_batch, CUstream stream, brim_error *err) {
    size_t bytes = (size_t)copy->from.bytes;
    if (where->from && where->to)
        return cuda_check(&d->cu, d->cu.memcpy_dtod_async(where->to, where->from, bytes, stream),
                          "cuMemcpyDtoDAsync", err);
    char *host = host_side(d, copy, micro_batch, err);
    if (!host) return false;
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
    if (!done) brim_error_prefix(err, "record %d (%s)", i, r->label);
    return done;
}

// ---- copies of memory that is not pinned --------------------------------------------------------

typedef struct pass_work {
    backend_device *device;
    queue_id queue;
    const copy_record *copy;
    prepared_copy where;
} pass_work;

const void *cuda_pass_of(loaded_program *l, int32_t record, brim_error *err) {
    const program_record *r = &l->p->record[record];
    pass_work *w = arena_array(&l->host.memory, 1, sizeof *w, err);
    if (w) *w = (pass_work){l->device, r->queue, &r->as.copy, l->record[record].as.copy};
    return w;
}

void cuda_pass(host_queues *h, const host_work *work, int32_t micro_batch, brim_error *err) {
    const pass_work *w = work->what;
    backend_device *d = w->device;
    CUcontext before;
    (void)h;
    char *host = host_side(d, w->copy, micro_batch, err);
    if (!host || !cuda_enter(d, &before, err)) return;
    const cuda_passage *passage = &d->memory.queue_passage[w->queue];
    CUstream stream = d->queue[w->queue];
    if (w->where.to)
        cuda_copy_in(d, passage, stream, w->where.to, host, w->copy->from.bytes, err);
    else
        cuda_copy_out(d, passage, stream, host, w->where.from, w->copy->from.bytes, err);
    cuda_leave(d, before);
}

// ---- the device and our threads -----------------------------------------------------------------

void cuda_await_event(void *device, void *event, brim_error *err) {
    backend_device *d = device;
    const run_event *one = event;
    CUcontext before;
    if (!cuda_enter(d, &before, err)) return;
    cuda_check(&d->cu, d->cu.event_synchronize(one->event), "cuEventSynchronize", err);
    cuda_leave(d, before);
}

void cuda_release_event(void *device, void *event) {
    backend_device *d = device;
    run_event_release(&d->events, event);
}

// An event for the end of what a stream has now.
static run_event *mark(backend_device *d, CUstream stream, brim_error *err) {
    run_event *event = run_event_take(&d->events, &d->cu, err);
    if (!event ||
        cuda_check(&d->cu, d->cu.event_record(event->event, stream), "cuEventRecord", err))
        return event;
    run_event_release(&d->events, event);
    return NULL;
}

// The runs that a task waits for are held until it is done.
static int32_t hold_events(loaded_program *l, int32_t i, brim_error *err) {
    backend_device *d = l->device;
    const program_record *r = &l->p->record[i];
    int32_t events = 0;
    if (r->queue < DEVICE_QUEUES && l->used[r->queue]) {
        run_event *end = mark(d, d->queue[r->queue], err);
        if (end) l->event[events++] = end;
        l->used[r->queue] = false;
    }
    for (int32_t w = 0; w < r->waits; w++) {
        run_event *event = l->latest[r->wait[w]];
        if (!event) continue;
        run_event_hold(&d->events, event);
        l->event[events++] = event;
    }
    return events;
}

static void submit_task(loaded_program *l, int32_t i, int32_t micro_batch, brim_error *err) {
    int64_t after[QUEUE_COUNT];
    queue_id queue = l->p->record[i].queue;
    host_records_awaited(&l->host, i, after);
    int32_t events = hold_events(l, i, err);
    host_records_submit(&l->host, i, micro_batch, after, l->event, events, err);
    if (queue < DEVICE_QUEUES) l->passed[queue] = l->host.ticket[i];
}

// A record of the device is submitted only when the tasks that it waits for are done. What was
// submitted before goes on meanwhile.
static void await_tasks(loaded_program *l, int32_t i, brim_error *err) {
    int64_t after[QUEUE_COUNT];
    bool waited = false;
    queue_id queue = l->p->record[i].queue;
    if (!l->host.tasks) return;
    host_records_awaited(&l->host, i, after);
    if (l->passed[queue] > after[queue]) after[queue] = l->passed[queue];
    for (int q = 0; q < QUEUE_COUNT && !failed(err); q++) {
        if (host_queues_done(l->host.queues, (queue_id)q, after[q])) continue;
        if (!waited) cuda_time_mark(l, QUEUE_COMPUTE, err);
        waited = true;
        host_queues_await(l->host.queues, (queue_id)q, after[q], err);
        cuda_time_mark(l, (queue_id)q, err);
    }
    l->used[queue] = l->passes;
}

// ---- queues -------------------------------------------------------------------------------------

// A task that waits for this record gets an event of this run.
static bool report(loaded_program *l, int32_t i, CUstream stream, brim_error *err) {
    backend_device *d = l->device;
    run_event *event = mark(d, stream, err);
    run_event_release(&d->events, l->latest[i]);
    l->latest[i] = event;
    return event != NULL;
}

static void wait_for_queue(loaded_program *l, const program_record *r, queue_id queue,
                           brim_error *err) {
    backend_device *d = l->device;
    bool waits = false;
    for (int32_t w = 0; w < r->waits && !failed(err); w++) {
        CUevent awaited = l->record[r->wait[w]].done;
        if (!awaited || l->p->record[r->wait[w]].queue != queue) continue;
        if (!waits && r->queue == QUEUE_COMPUTE) cuda_time_mark(l, QUEUE_COMPUTE, err);
        waits = true;
        cuda_check(&d->cu,
                   d->cu.stream_wait_event(d->queue[r->queue], awaited, CU_EVENT_WAIT_DEFAULT),
                   "cuStreamWaitEvent", err);
    }
    if (waits && r->queue == QUEUE_COMPUTE) cuda_time_mark(l, queue, err);
}

// An event that was never recorded holds nothing up: a record that has not run yet is not waited
// for.
static bool submit_in_order(loaded_program *l, int32_t i, int32_t micro_batch, brim_error *err) {
    backend_device *d = l->device;
    const program_record *r = &l->p->record[i];
    CUstream stream = d->queue[r->queue];
    await_tasks(l, i, err);
    for (int q = 0; q < DEVICE_QUEUES; q++) wait_for_queue(l, r, (queue_id)q, err);
    cuda_time_copy(l, r->queue, TIMED_COPY_BEGIN, err);
    if (failed(err) || !submit_record(l, i, micro_batch, stream, err)) return false;
    cuda_time_copy(l, r->queue, TIMED_COPY_END, err);
    CUevent done = l->record[i].done;
    return (!done || cuda_check(&d->cu, d->cu.event_record(done, stream), "cuEventRecord", err)) &&
           (!l->record[i].reports || report(l, i, stream, err));
}

// Each of the device's queues waits for all.
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

// Records wait for records of their own program only: where another program ran last, all that it
// submitted comes first.
static void take_turn(loaded_program *l, brim_error *err) {
    backend_device *d = l->device;
    const loaded_program *last = d->last_run;
    if (last && last != l) {
        if (last->host.tasks || l->host.tasks)
            cuda_finish(d, err);
        else
            join_queues(d, err);
    }
    d->last_run = l;
}

brim_status cuda_run(loaded_program *l, uint8_t section, int32_t micro_batch, brim_error *err) {
    backend_device *d = l->device;
    CUcontext before;
    if (failed(err) || host_queues_check(d->tasks, err) || !cuda_enter(d, &before, err))
        return err->status;
    take_turn(l, err);
    cuda_time_run(l, err);
    for (int32_t i = 0; i < l->p->records && !failed(err); i++) {
        if (!(l->p->record[i].sections & section)) continue;
        if (is_task(&l->host, i))
            submit_task(l, i, micro_batch, err);
        else
            submit_in_order(l, i, micro_batch, err);
    }
    cuda_time_mark(l, QUEUE_COMPUTE, err);
    cuda_leave(d, before);
    return err->status;
}

brim_status cuda_wait(backend_device *d, brim_error *err) {
    CUcontext before;
    if (!cuda_enter(d, &before, err)) return err->status;
    for (int q = 0; q < DEVICE_QUEUES && !failed(err); q++)
        cuda_check(&d->cu, d->cu.stream_synchronize(d->queue[q]), "cuStreamSynchronize", err);
    cuda_leave(d, before);
    return host_queues_drain(d->tasks, 0, DEVICE_QUEUES, err);
}

// Whatever fails, no task is left behind: its program may be gone next.
brim_status cuda_finish(backend_device *d, brim_error *err) {
    cuda_wait(d, err);
    return host_queues_drain(d->tasks, 0, QUEUE_COUNT, err);
}

// ---- profiling ----------------------------------------------------------------------------------

static void time_task(loaded_program *l, int32_t i, double *seconds, brim_error *err) {
    backend_device *d = l->device;
    CUresult status = d->cu.stream_synchronize(d->queue[QUEUE_COMPUTE]);
    if (!cuda_check(&d->cu, status, "cuStreamSynchronize", err)) return;
    double start = clock_seconds();
    host_records_run(&l->host, i, 0, err);
    *seconds = clock_seconds() - start;
}

// Runs the section on one stream, an event before each record and one after the last. Tasks are
// timed here.
static void submit_timed(loaded_program *l, uint8_t section, CUevent *event, double *seconds,
                         brim_error *err) {
    backend_device *d = l->device;
    CUstream stream = d->queue[QUEUE_COMPUTE];
    for (int32_t i = 0; i < l->p->records && !failed(err); i++) {
        cuda_check(&d->cu, d->cu.event_record(event[i], stream), "cuEventRecord", err);
        if (failed(err) || !(l->p->record[i].sections & section)) continue;
        if (is_task(&l->host, i))
            time_task(l, i, &seconds[i], err);
        else
            submit_record(l, i, 0, stream, err);
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
    memset(seconds, 0, (size_t)l->p->records * sizeof *seconds);
    while (made < events && cuda_check(&d->cu, d->cu.event_create(&event[made], CU_EVENT_DEFAULT),
                                       "cuEventCreate", err))
        made++;
    if (!failed(err)) submit_timed(l, section, event, seconds, err);
    for (int32_t i = 0; i < l->p->records && !failed(err); i++) {
        float milliseconds = 0;
        if (is_task(&l->host, i)) continue;
        cuda_check(&d->cu, d->cu.event_elapsed_time(&milliseconds, event[i], event[i + 1]),
                   "cuEventElapsedTime", err);
        seconds[i] = l->p->record[i].sections & section ? milliseconds * 1e-3 : 0;
    }
    for (size_t i = 0; i < made; i++) d->cu.event_destroy(event[i]);
    free(event);
}

brim_status cuda_profile(loaded_program *l, uint8_t section, double *seconds, brim_error *err) {
    CUcontext before;
    if (cuda_finish(l->device, err) || !cuda_enter(l->device, &before, err)) return err->status;
    l->device->last_run = l;
    profile_section(l, section, seconds, err);
    cuda_leave(l->device, before);
    return err->status;
}

// ---- one record after another -------------------------------------------------------------------

static void run_alone(loaded_program *l, int32_t i, int32_t micro_batch, brim_error *err) {
    backend_device *d = l->device;
    CUstream stream = d->queue[QUEUE_COMPUTE];
    if (is_task(&l->host, i))
        host_records_run(&l->host, i, micro_batch, err);
    else if (submit_record(l, i, micro_batch, stream, err))
        cuda_check(&d->cu, d->cu.stream_synchronize(stream), "cuStreamSynchronize", err);
}

brim_status cuda_step_through(loaded_program *l, uint8_t section, int32_t micro_batch,
                              const record_watcher *watcher, brim_error *err) {
    CUcontext before;
    if (cuda_finish(l->device, err) || !cuda_enter(l->device, &before, err)) return err->status;
    l->device->last_run = l;
    for (int32_t i = 0; i < l->p->records && !failed(err); i++) {
        if (!(l->p->record[i].sections & section)) continue;
        run_alone(l, i, micro_batch, err);
        if (watcher && !failed(err)) watcher->done(watcher->user, i, err);
    }
    cuda_leave(l->device, before);
    return err->status;
}
