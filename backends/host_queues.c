#include "backends/host_queues.h"

#include <limits.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include "core/alloc.h"
#include "core/clock.h"

typedef struct host_task {
    struct host_task *next;
    host_order order; // its events are those below
    void *event[];
} host_task;

typedef struct lane {
    host_queues *owner;
    queue_id queue;
    bool started;
    pthread_t thread;
    host_task *first, *last; // not yet begun
    int64_t submitted, done;
} lane;

struct host_queues {
    device_events events;
    pthread_mutex_t lock;   // guards all that follows
    pthread_cond_t changed; // a task came or is done, or the end has come
    lane lane[QUEUE_COUNT];
    brim_error error; // the first one
    bool ending;
    worker_pool *pool;
};

// ---- the threads --------------------------------------------------------------------------------

static void release_events(const host_queues *h, const host_task *task) {
    for (int32_t i = 0; i < task->order.events; i++)
        h->events.release(h->events.device, task->event[i]);
}

// With the lock held.
static void wait_for_tickets(host_queues *h, const int64_t after[QUEUE_COUNT]) {
    for (int q = 0; q < QUEUE_COUNT; q++)
        while (h->lane[q].done < after[q]) pthread_cond_wait(&h->changed, &h->lock);
}

static void perform(host_queues *h, queue_id queue, const host_task *task, stall_span *span,
                    brim_error *err) {
    const host_work *work = task->order.work;
    for (int32_t i = 0; i < task->order.events && !failed(err); i++)
        h->events.wait(h->events.device, task->event[i], err);
    if (h->events.before_task) h->events.before_task(queue);
    if (work->log) span->begin = clock_seconds();
    if (!failed(err)) work->run(h, work, task->order.micro_batch, err);
    if (work->log) span->end = clock_seconds();
    brim_error_prefix(err, "record %d (%s)", work->record, work->label);
}

// With the lock held, which is given up meanwhile.
static void do_task(host_queues *h, lane *l, host_task *task) {
    brim_error err = {0};
    stall_span span = {0};
    stall_log *log = task->order.work->log;
    wait_for_tickets(h, task->order.after);
    bool dropped = failed(&h->error);
    pthread_mutex_unlock(&h->lock);
    if (!dropped) perform(h, l->queue, task, &span, &err);
    release_events(h, task);
    free(task);
    pthread_mutex_lock(&h->lock);
    if (log) stall_log_work(log, l->queue, span.begin, span.end);
    if (failed(&err) && !failed(&h->error)) h->error = err;
    l->done++;
    pthread_cond_broadcast(&h->changed);
}

static void *work_on(void *argument) {
    lane *l = argument;
    host_queues *h = l->owner;
    pthread_mutex_lock(&h->lock);
    for (;;) {
        while (!l->first && !h->ending) pthread_cond_wait(&h->changed, &h->lock);
        host_task *task = l->first;
        if (!task) break;
        l->first = task->next;
        if (!l->first) l->last = NULL;
        do_task(h, l, task);
    }
    pthread_mutex_unlock(&h->lock);
    return NULL;
}

// ---- beginning and ending -----------------------------------------------------------------------

host_queues *host_queues_create(const device_events *events, brim_error *err) {
    host_queues *h = brim_calloc(sizeof *h, err);
    if (!h) return NULL;
    h->events = *events;
    pthread_mutex_init(&h->lock, NULL);
    pthread_cond_init(&h->changed, NULL);
    for (int q = 0; q < QUEUE_COUNT; q++) h->lane[q] = (lane){.owner = h, .queue = (queue_id)q};
    return h;
}

void host_queues_free(host_queues *h) {
    if (!h) return;
    pthread_mutex_lock(&h->lock);
    h->ending = true;
    pthread_cond_broadcast(&h->changed);
    pthread_mutex_unlock(&h->lock);
    for (int q = 0; q < QUEUE_COUNT; q++)
        if (h->lane[q].started) pthread_join(h->lane[q].thread, NULL);
    worker_pool_free(h->pool);
    pthread_cond_destroy(&h->changed);
    pthread_mutex_destroy(&h->lock);
    free(h);
}

brim_status host_queues_start(host_queues *h, queue_id queue, brim_error *err) {
    lane *l = &h->lane[queue];
    if (failed(err) || l->started) return err->status;
    int status = pthread_create(&l->thread, NULL, work_on, l);
    if (status)
        return brim_fail(err, BRIM_MEMORY, "the system gives no thread for queue %s: %s",
                         queue_name(queue), strerror(status));
    l->started = true;
    return BRIM_OK;
}

worker_pool *host_queues_pool(host_queues *h, brim_error *err) {
    pthread_mutex_lock(&h->lock);
    if (!h->pool) h->pool = worker_pool_create(worker_pool_cores(INT_MAX), err);
    worker_pool *pool = h->pool;
    pthread_mutex_unlock(&h->lock);
    return pool;
}

// ---- submitting and waiting ---------------------------------------------------------------------

// With the lock held.
static brim_status tell(const host_queues *h, brim_error *err) {
    if (failed(&h->error)) brim_fail(err, h->error.status, "%s", h->error.text);
    return err->status;
}

int64_t host_queues_submit(host_queues *h, queue_id queue, const host_order *order,
                           brim_error *err) {
    host_task *task = brim_calloc(sizeof *task + (size_t)order->events * sizeof *task->event, err);
    if (!task) {
        for (int32_t i = 0; i < order->events; i++)
            h->events.release(h->events.device, order->event[i]);
        return 0;
    }
    task->order = *order;
    if (order->events)
        memcpy(task->event, order->event, (size_t)order->events * sizeof *task->event);
    task->order.event = NULL;
    pthread_mutex_lock(&h->lock);
    lane *l = &h->lane[queue];
    if (l->last)
        l->last->next = task;
    else
        l->first = task;
    l->last = task;
    int64_t ticket = ++l->submitted;
    tell(h, err);
    pthread_cond_broadcast(&h->changed);
    pthread_mutex_unlock(&h->lock);
    return ticket;
}

bool host_queues_done(host_queues *h, queue_id queue, int64_t ticket) {
    pthread_mutex_lock(&h->lock);
    bool done = h->lane[queue].done >= ticket;
    pthread_mutex_unlock(&h->lock);
    return done;
}

brim_status host_queues_await(host_queues *h, queue_id queue, int64_t ticket, brim_error *err) {
    pthread_mutex_lock(&h->lock);
    while (h->lane[queue].done < ticket) pthread_cond_wait(&h->changed, &h->lock);
    tell(h, err);
    pthread_mutex_unlock(&h->lock);
    return err->status;
}

brim_status host_queues_drain(host_queues *h, queue_id first, queue_id end, brim_error *err) {
    pthread_mutex_lock(&h->lock);
    for (int q = (int)first; q < (int)end; q++)
        while (h->lane[q].done < h->lane[q].submitted) pthread_cond_wait(&h->changed, &h->lock);
    tell(h, err);
    pthread_mutex_unlock(&h->lock);
    return err->status;
}

void host_queues_take_log(host_queues *h, stall_log *from, stall_log *to, double behind) {
    pthread_mutex_lock(&h->lock);
    stall_log_take(to, from, behind);
    pthread_mutex_unlock(&h->lock);
}

brim_status host_queues_check(host_queues *h, brim_error *err) {
    pthread_mutex_lock(&h->lock);
    tell(h, err);
    pthread_mutex_unlock(&h->lock);
    return err->status;
}
