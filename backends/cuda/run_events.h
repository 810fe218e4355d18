// Events that stand for one run of a record each.
//
// A record's own event stands for its latest run. A task of our threads waits for the run that was
// the latest when the task was submitted, which may be some runs ago when its turn comes: so each
// run that a task can wait for has an event of its own, from a pool, and whoever holds it knows it
// is not recorded again before it is released.
#ifndef BRIM_BACKENDS_CUDA_RUN_EVENTS_H
#define BRIM_BACKENDS_CUDA_RUN_EVENTS_H

#include <pthread.h>
#include "backends/cuda/driver.h"

typedef struct run_event {
    CUevent event;
    int holders;
    struct run_event *next; // of all, and of those that nobody holds
    struct run_event *next_free;
} run_event;

typedef struct run_events {
    pthread_mutex_t lock;
    run_event *all, *free;
} run_events;

void run_events_open(run_events *e);
// In the context of the events.
void run_events_close(run_events *e, const cuda_driver *cu);

// One that nobody holds, held once now; made where there is none. In the context of the device.
run_event *run_event_take(run_events *e, const cuda_driver *cu, brim_error *err);
void run_event_hold(run_events *e, run_event *event);
// NULL is fine.
void run_event_release(run_events *e, run_event *event);

#endif
