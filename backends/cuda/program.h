// A loaded program: what program.c prepares and run.c submits.
#ifndef BRIM_BACKENDS_CUDA_PROGRAM_H
#define BRIM_BACKENDS_CUDA_PROGRAM_H

#include "backends/cuda/device.h"

// An argument as the driver wants it: by its address. A buffer is two.
typedef union argument_value {
    CUdeviceptr address;
    int64_t i64;
    int32_t i32;
    float f32;
} argument_value;

typedef struct prepared_launch {
    CUfunction function;
    argument_value *value;
    void **address; // of the values
} prepared_launch;

typedef struct prepared_copy {
    CUdeviceptr from, to; // 0: the host space
} prepared_copy;

typedef struct prepared_record {
    CUevent done; // NULL where no record of another of the device's queues waits for it
    bool reports; // a task waits for it
    union {
        prepared_launch launch;
        cuda_product product;
        prepared_copy copy;
        CUdeviceptr fill;
    } as;
} prepared_record;

// A mark: the compute queue came here. Since the mark before, it stood still for `queue`, or
// worked, where that is QUEUE_COMPUTE. For copies, the queue that they are on.
typedef enum timed_kind { TIMED_MARK, TIMED_COPY_BEGIN, TIMED_COPY_END } timed_kind;

typedef struct timed_event {
    CUevent event;
    queue_id queue;
    timed_kind kind;
} timed_event;

typedef struct cuda_timing {
    bool on;
    timed_event *event; // those that were made, up to capacity; the first is a mark
    size_t events, capacity;
    double begun; // when the first was recorded, by our clock
    stall_log log;
} cuda_timing;

struct loaded_program {
    backend_device *device;
    const program *p;
    CUmodule *module;
    int32_t *
        module_of; // by kernel of the program; those with one text and one set of defines share one
    int32_t modules;
    prepared_record *record;
    host_records host;
    run_event **latest; // of the records that report: of their latest run
    void **event;       // scratch: a task's list
    // Copies of a host space that is not pinned are tasks, though their queue is the device's. For
    // the order in these queues: whether the device has had work in one since its latest task, and
    // the latest task in it.
    bool passes;
    bool used[DEVICE_QUEUES];
    int64_t passed[DEVICE_QUEUES];
    cuda_timing timing;
};

// run.c
// The task of a copy between the device and a host space that is not pinned, and what it works on
// (in the memory of l->host).
void cuda_pass(host_queues *h, const host_work *work, int32_t micro_batch, brim_error *err);
const void *cuda_pass_of(loaded_program *l, int32_t record, brim_error *err);

// timing.c, in the device's context; nothing happens where runs are not timed
// Before a run.
void cuda_time_run(loaded_program *l, brim_error *err);
void cuda_time_mark(loaded_program *l, queue_id since, brim_error *err);
void cuda_time_copy(loaded_program *l, queue_id queue, timed_kind end, brim_error *err);
void cuda_timing_free(loaded_program *l);

#endif
