// What a program's runs wait for, timed by the device: marks on the compute queue before and after
// each wait, and the events of copies.
#include <stdlib.h>
#include "backends/opencl/program.h"
#include "core/alloc.h"
#include "core/clock.h"

static void add(loaded_program *l, timed_event event, brim_error *err) {
    opencl_timing *t = &l->timing;
    if (brim_grow((void **)&t->event, &t->capacity, t->events + 1, sizeof *t->event, err))
        t->event[t->events++] = event;
    else
        l->device->cl.clReleaseEvent(event.event);
}

void opencl_time_mark(loaded_program *l, queue_id since, cl_uint waits, const cl_event *wait,
                      brim_error *err) {
    backend_device *d = l->device;
    timed_event mark = {.queue = since, .mark = true};
    if (!l->timing.on || failed(err)) return;
    cl_int status = d->cl.clEnqueueMarkerWithWaitList(d->queue[QUEUE_COMPUTE], waits,
                                                      waits ? wait : NULL, &mark.event);
    if (opencl_check(status, "clEnqueueMarkerWithWaitList", err)) add(l, mark, err);
}

void opencl_time_run(loaded_program *l, brim_error *err) {
    if (!l->timing.on || l->timing.events) return;
    l->timing.begun = clock_seconds();
    opencl_time_mark(l, QUEUE_COMPUTE, 0, NULL, err);
}

void opencl_time_copy(loaded_program *l, queue_id queue, cl_event event, brim_error *err) {
    opencl_check(l->device->cl.clRetainEvent(event), "clRetainEvent", err);
    if (!failed(err)) add(l, (timed_event){event, queue, false}, err);
}

// ---- reading ------------------------------------------------------------------------------------

static bool moment(const loaded_program *l, cl_event event, cl_profiling_info which, double *out) {
    cl_ulong at = 0;
    cl_int status = l->device->cl.clGetEventProfilingInfo(event, which, sizeof at, &at, NULL);
    *out = (double)at * 1e-9;
    return status == CL_SUCCESS;
}

// A copy on the compute queue is a wait, too: no kernel runs meanwhile.
static bool log_copy(loaded_program *l, const timed_event *copy, double base) {
    double begin, end;
    if (!moment(l, copy->event, CL_PROFILING_COMMAND_START, &begin) ||
        !moment(l, copy->event, CL_PROFILING_COMMAND_END, &end))
        return false;
    stall_log_work(&l->timing.log, copy->queue, begin - base, end - base);
    if (!l->device->separate_queues)
        stall_log_wait(&l->timing.log, copy->queue, begin - base, end - base);
    return true;
}

static bool log_events(loaded_program *l) {
    opencl_timing *t = &l->timing;
    double base = 0, last = 0, at;
    for (size_t i = 0; i < t->events; i++) {
        const timed_event *e = &t->event[i];
        if (!e->mark) {
            if (!log_copy(l, e, base)) return false;
            continue;
        }
        if (!moment(l, e->event, CL_PROFILING_COMMAND_END, &at)) return false;
        if (i == 0) base = last = at;
        if (e->queue == QUEUE_COMPUTE)
            stall_log_work(&t->log, e->queue, last - base, at - base);
        else
            stall_log_wait(&t->log, e->queue, last - base, at - base);
        last = at;
    }
    return true;
}

static void drop_events(loaded_program *l) {
    opencl_timing *t = &l->timing;
    for (size_t i = 0; i < t->events; i++) l->device->cl.clReleaseEvent(t->event[i].event);
    t->events = 0;
}

// A driver that gives no times is no reason to stop.
static void start(loaded_program *l, brim_error *err) {
    bool streams = false;
    for (int32_t i = 0; i < l->p->records; i++) streams |= l->p->record[i].queue != QUEUE_COMPUTE;
    if (!streams || !opencl_profile_queues(l->device, err)) return;
    host_records_time(&l->host);
    l->timing.on = true;
}

brim_status opencl_stalls(loaded_program *l, run_stalls *out, brim_error *err) {
    opencl_timing *t = &l->timing;
    *out = (run_stalls){0};
    if (failed(err)) return err->status;
    if (!t->on) start(l, err);
    if (!t->events) return err->status;
    bool known = log_events(l);
    drop_events(l);
    host_records_take_log(&l->host, &t->log, t->begun);
    stall_log_sum(&t->log, out, err);
    if (known) return err->status;
    t->on = false;
    *out = (run_stalls){0};
    return err->status;
}

void opencl_timing_free(loaded_program *l) {
    drop_events(l);
    free(l->timing.event);
    stall_log_free(&l->timing.log);
}
