// The records of a loaded program that threads of ours run (host_queues.h): host kernels and copies
// of the file, and whatever copies a backend adds.
#ifndef BRIM_BACKENDS_HOST_RECORDS_H
#define BRIM_BACKENDS_HOST_RECORDS_H

#include "backends/host_file.h"
#include "backends/host_queues.h"

// Where a device's host and file spaces are.
typedef struct host_spaces {
    char *host;
    int64_t host_bytes;
    host_file file;
} host_spaces;

typedef struct host_records {
    host_queues *queues;
    const program *p;
    arena memory;
    host_work *work; // by record; its run is NULL where the device runs the record
    int64_t *ticket; // by record: of its latest run; 0: none
    int32_t tasks;   // records that are not the device's
    stall_log log;   // when tasks ran, where that is asked for
} host_records;

// Prepares all records on queues that are not the device's, and starts those queues.
brim_status host_records_load(host_records *h, host_queues *queues, const program *p,
                              const host_spaces *spaces, brim_error *err);
// Its tasks are done.
void host_records_free(host_records *h);

// Makes a task of a record on a queue of the device.
brim_status host_records_add(host_records *h, int32_t record, const host_work *work,
                             brim_error *err);

static inline bool is_task(const host_records *h, int32_t record) {
    return h->tasks && h->work[record].run;
}

// From now on it is noted when tasks run. None is under way.
void host_records_time(host_records *h);
// Moves what was noted of tasks that are done.
void host_records_take_log(host_records *h, stall_log *to, double behind);

// For each queue the latest ticket of the tasks among those that a record waits for; 0: none.
void host_records_awaited(const host_records *h, int32_t record, int64_t after[QUEUE_COUNT]);
// Submits the record's task after those tickets and events, which are released in any case.
brim_status host_records_submit(host_records *h, int32_t record, int32_t micro_batch,
                                const int64_t after[QUEUE_COUNT], void *const *event,
                                int32_t events, brim_error *err);
// Runs the task at once, on this thread. Nothing else may be under way.
brim_status host_records_run(host_records *h, int32_t record, int32_t micro_batch, brim_error *err);

#endif
