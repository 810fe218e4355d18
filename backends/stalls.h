// What a step waited for, measured: spans of time on the device's queues and on those of our
// threads, and what they come to.
//
//   1. stall_log_work(&log, queue, begin, end);   the queue was at work
//   2. stall_log_wait(&log, queue, begin, end);   kernels stood still for a record of that queue
//   3. stall_log_sum(&log, &out, err);            and the log is empty again
//
// Seconds of one clock, whose 0 is where the first record began. The spans of QUEUE_COMPUTE may
// cover waits: what is waited is not work.
#ifndef BRIM_BACKENDS_STALLS_H
#define BRIM_BACKENDS_STALLS_H

#include "backends/program.h"

// The same quantities that program_simulate expects.
typedef struct run_stalls {
    double seconds;             // of the device's queues, from the first record to the last
    double busy[QUEUE_COUNT];   // the queue was at work
    double waited[QUEUE_COUNT]; // of seconds: kernels stood still for a record of that queue
    double streaming;           // of seconds: something was on its way to the device or from it
    double hidden;              // of that: kernels ran meanwhile
} run_stalls;

typedef struct stall_span {
    double begin, end;
    queue_id queue;
    bool waits;
} stall_span;

typedef struct stall_log {
    stall_span *span;
    size_t spans, capacity;
    brim_error error; // the first one; sum returns it
} stall_log;

void stall_log_work(stall_log *log, queue_id queue, double begin, double end);
void stall_log_wait(stall_log *log, queue_id queue, double begin, double end);
// Moves the spans of another log to this one, whose clock is behind by that much.
void stall_log_take(stall_log *log, stall_log *from, double behind);
brim_status stall_log_sum(stall_log *log, run_stalls *out, brim_error *err);
void stall_log_free(stall_log *log);

#endif
