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
};

// program.c
void opencl_release_events(loaded_program *l);

#endif
