#include "backends/cuda/run_events.h"

#include <stdlib.h>
#include "core/alloc.h"

void run_events_open(run_events *e) {
    *e = (run_events){0};
    pthread_mutex_init(&e->lock, NULL);
}

void run_events_close(run_events *e, const cuda_driver *cu) {
    for (run_event *event = e->all, *next; event; event = next) {
        next = event->next;
        cu->event_destroy(event->event);
        free(event);
    }
    pthread_mutex_destroy(&e->lock);
}

static run_event *make(const cuda_driver *cu, brim_error *err) {
    run_event *event = brim_calloc(sizeof *event, err);
    if (!event) return NULL;
    // A thread that waits leaves the core to others.
    unsigned flags = CU_EVENT_DISABLE_TIMING | CU_EVENT_BLOCKING_SYNC;
    if (cuda_check(cu, cu->event_create(&event->event, flags), "cuEventCreate", err)) return event;
    free(event);
    return NULL;
}

run_event *run_event_take(run_events *e, const cuda_driver *cu, brim_error *err) {
    pthread_mutex_lock(&e->lock);
    run_event *event = e->free;
    if (event) {
        e->free = event->next_free;
    } else if ((event = make(cu, err))) {
        event->next = e->all;
        e->all = event;
    }
    if (event) event->holders = 1;
    pthread_mutex_unlock(&e->lock);
    return event;
}

void run_event_hold(run_events *e, run_event *event) {
    pthread_mutex_lock(&e->lock);
    event->holders++;
    pthread_mutex_unlock(&e->lock);
}

void run_event_release(run_events *e, run_event *event) {
    if (!event) return;
    pthread_mutex_lock(&e->lock);
    if (--event->holders == 0) {
        event->next_free = e->free;
        e->free = event;
    }
    pthread_mutex_unlock(&e->lock);
}
