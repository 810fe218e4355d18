// Queues that threads of ours work on, beside a device: one thread a queue, each in the order of
// submission.
//
//   1. host_queues *h = host_queues_create(&events, err);      no thread yet
//   2. host_queues_start(h, queue, err);                       for each queue that a program uses
//   3. int64_t ticket = host_queues_submit(h, queue, &order, err);
//   4. host_queues_await(h, queue, ticket, err);   or   host_queues_drain(h, 0, QUEUE_COUNT, err);
//   5. host_queues_free(h);
//
// The first error of a task is kept: every later task is dropped, which counts as done, so that
// nobody waits for ever, and every later call returns that error.
#ifndef BRIM_BACKENDS_HOST_QUEUES_H
#define BRIM_BACKENDS_HOST_QUEUES_H

#include "backends/stalls.h"
#include "backends/worker_pool.h"

typedef struct host_queues host_queues;

// How a thread waits for what the device does: `event` stands for one run of a record. Both are
// called from the queues' threads; release also from the one that submits.
typedef struct device_events {
    void *device;
    void (*wait)(void *device, void *event, brim_error *err);
    void (*release)(void *device, void *event);
    void (*before_task)(queue_id queue); // for tests; NULL: none
} device_events;

// What a task does: `run` on the queue's thread.
typedef struct host_work host_work;
struct host_work {
    void (*run)(host_queues *h, const host_work *work, int32_t micro_batch, brim_error *err);
    const void *what; // run's own
    const char *label;
    int32_t record;
    stall_log *log; // its runs are noted there, in seconds of clock_seconds(); NULL: they are not
};

// A task, and what must be over before it starts: in each queue of ours all up to a ticket, and
// runs of the device's records.
typedef struct host_order {
    const host_work *work; // stays where it is until the task is done
    int32_t micro_batch;
    int64_t after[QUEUE_COUNT]; // 0: nothing of that queue
    void *const *event;         // copied; released when the task is done or dropped
    int32_t events;
} host_order;

host_queues *host_queues_create(const device_events *events, brim_error *err);
// Ends the threads, after what they still have to do.
void host_queues_free(host_queues *h);

brim_status host_queues_start(host_queues *h, queue_id queue, brim_error *err);
// The task's ticket: 1 for the queue's first. 0, with err set and the events released, where it was
// not taken. An error of an earlier task is returned with a ticket.
int64_t host_queues_submit(host_queues *h, queue_id queue, const host_order *order,
                           brim_error *err);
// Whether all tasks of the queue up to that one are done.
bool host_queues_done(host_queues *h, queue_id queue, int64_t ticket);
brim_status host_queues_await(host_queues *h, queue_id queue, int64_t ticket, brim_error *err);
// Waits for all tasks of the queues first .. end - 1.
brim_status host_queues_drain(host_queues *h, queue_id first, queue_id end, brim_error *err);
// The error of an earlier task, if there is one.
brim_status host_queues_check(host_queues *h, brim_error *err);

// Moves what was noted so far.
void host_queues_take_log(host_queues *h, stall_log *from, stall_log *to, double behind);

// All cores, for the work of one task; made at the first use.
worker_pool *host_queues_pool(host_queues *h, brim_error *err);

#endif
