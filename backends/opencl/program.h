// A loaded program: what program.c prepares and run.c submits.
#ifndef BRIM_BACKENDS_OPENCL_PROGRAM_H
#define BRIM_BACKENDS_OPENCL_PROGRAM_H

#include "backends/opencl/device.h"

typedef struct prepared_launch {
    cl_kernel kernel; // with its arguments set
    cl_uint dims;
    size_t global[3], local[3];
} prepared_launch;

typedef struct prepared_copy {
    cl_mem from, to; // NULL: the staging area
    size_t from_at, to_at;
} prepared_copy;

typedef struct prepared_record {
    bool signals; // a record that its own queue does not put after it waits for it
    union {
        prepared_launch launch;
        opencl_product product;
        prepared_copy copy;
        struct {
            cl_mem chunk;
            size_t at;
        } fill;
    } as;
} prepared_record;

// Of a mark: when the compute queue came to it. Since the mark before, it stood still for `queue`,
// or worked, where that is QUEUE_COMPUTE. Of a copy: when it began and ended.
typedef struct timed_event {
    cl_event event;
    queue_id queue;
    bool mark;
} timed_event;

typedef struct opencl_timing {
    bool on;
    timed_event *event; // the first is a mark
    size_t events, capacity;
    double begun; // when the first was submitted, by our clock
    stall_log log;
} opencl_timing;

struct loaded_program {
    backend_device *device;
    const program *p;
    cl_program
        *module; // by kernel of the program; those with one text and one set of defines share one
    bool *module_owned;
    prepared_record *record;
    host_records host;
    cl_event *event;            // of the records that signal: their latest run
    cl_event *wait;             // scratch: a record's list
    cl_command_queue profiling; // made when it is first asked for
    opencl_timing timing;
};

// program.c
void opencl_release_events(loaded_program *l);

// timing.c; nothing happens where runs are not timed
// Before a run, and where the compute queue came to (after these events, too).
void opencl_time_run(loaded_program *l, brim_error *err);
void opencl_time_mark(loaded_program *l, queue_id since, cl_uint waits, const cl_event *wait,
                      brim_error *err);
void opencl_time_copy(loaded_program *l, queue_id queue, cl_event event, brim_error *err);
void opencl_timing_free(loaded_program *l);

#endif
