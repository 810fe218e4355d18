// What a program's runs wait for, timed by the device: marks on the compute queue before and after
// each wait, and events around copies.
#include <stdlib.h>
#include "backends/cuda/program.h"
#include "core/alloc.h"
#include "core/clock.h"

// The next event, recorded. Events are made in the first step and used again in each.
static void record(loaded_program *l, queue_id queue, timed_event what, brim_error *err) {
    backend_device *d = l->device;
    cuda_timing *t = &l->timing;
    if (!brim_grow((void **)&t->event, &t->capacity, t->events + 1, sizeof *t->event, err)) return;
    what.event = t->event[t->events].event;
    if (!what.event && !cuda_check(&d->cu, d->cu.event_create(&what.event, CU_EVENT_DEFAULT),
                                   "cuEventCreate", err))
        return;
    t->event[t->events] = what;
    if (cuda_check(&d->cu, d->cu.event_record(what.event, d->queue[queue]), "cuEventRecord", err))
        t->events++;
}

void cuda_time_mark(loaded_program *l, queue_id since, brim_error *err) {
    if (!l->timing.on || failed(err)) return;
    record(l, QUEUE_COMPUTE, (timed_event){.queue = since, .kind = TIMED_MARK}, err);
}

void cuda_time_copy(loaded_program *l, queue_id queue, timed_kind end, brim_error *err) {
    if (!l->timing.on || queue == QUEUE_COMPUTE || failed(err)) return;
    record(l, queue, (timed_event){.queue = queue, .kind = end}, err);
}

// Where our threads copy to the device and from it, the moment is needed by their clock, too.
void cuda_time_run(loaded_program *l, brim_error *err) {
    backend_device *d = l->device;
    cuda_timing *t = &l->timing;
    if (!t->on || t->events) return;
    cuda_time_mark(l, QUEUE_COMPUTE, err);
    if (l->passes && t->events)
        cuda_check(&d->cu, d->cu.event_synchronize(t->event[0].event), "cuEventSynchronize", err);
    t->begun = clock_seconds();
}

// ---- reading ------------------------------------------------------------------------------------

static double moment(loaded_program *l, size_t i, brim_error *err) {
    backend_device *d = l->device;
    float milliseconds = 0;
    cuda_check(
        &d->cu,
        d->cu.event_elapsed_time(&milliseconds, l->timing.event[0].event, l->timing.event[i].event),
        "cuEventElapsedTime", err);
    return milliseconds * 1e-3;
}

static void log_events(loaded_program *l, brim_error *err) {
    cuda_timing *t = &l->timing;
    double last = 0, began[DEVICE_QUEUES] = {0};
    for (size_t i = 1; i < t->events && !failed(err); i++) {
        const timed_event *e = &t->event[i];
        double at = moment(l, i, err);
        if (e->kind == TIMED_COPY_BEGIN)
            began[e->queue] = at;
        else if (e->kind == TIMED_COPY_END)
            stall_log_work(&t->log, e->queue, began[e->queue], at);
        else if (e->queue == QUEUE_COMPUTE)
            stall_log_work(&t->log, e->queue, last, at);
        else
            stall_log_wait(&t->log, e->queue, last, at);
        if (e->kind == TIMED_MARK) last = at;
    }
    t->events = 0;
}

static void start(loaded_program *l, brim_error *err) {
    bool streams = false;
    for (int32_t i = 0; i < l->p->records; i++) streams |= l->p->record[i].queue != QUEUE_COMPUTE;
    if (!streams || cuda_finish(l->device, err)) return;
    host_records_time(&l->host);
    l->timing.on = true;
}

brim_status cuda_stalls(loaded_program *l, run_stalls *out, brim_error *err) {
    cuda_timing *t = &l->timing;
    CUcontext before;
    *out = (run_stalls){0};
    if (failed(err)) return err->status;
    if (!t->on) start(l, err);
    if (!t->events || !cuda_enter(l->device, &before, err)) return err->status;
    log_events(l, err);
    cuda_leave(l->device, before);
    host_records_take_log(&l->host, &t->log, t->begun);
    return stall_log_sum(&t->log, out, err);
}

void cuda_timing_free(loaded_program *l) {
    cuda_timing *t = &l->timing;
    for (size_t i = 0; i < t->capacity; i++)
        if (t->event[i].event) l->device->cu.event_destroy(t->event[i].event);
    free(t->event);
    stall_log_free(&t->log);
}
