// The flat program: what lowering makes of a scheduled and planned graph, and all that a backend ever sees.
//
// A program is a list of records in the order of submission. Each says on which queue it runs, which bytes it touches,
// and which records of other queues it waits for; program_verify proves that any two records that touch
// the same bytes, one of them writing, are ordered. The text form (program_print) is compared with golden files.
#ifndef BRIM_BACKENDS_PROGRAM_H
#define BRIM_BACKENDS_PROGRAM_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <brim/dtype.h>
#include "backends/host_kernels.h"
#include "core/arena.h"
#include "core/error.h"
#include "graph/spaces.h"


// Bytes of one memory space. Offsets are of the whole space; the backend cuts it into chunks.
typedef struct byte_range {
    memory_space space;
    int64_t offset, bytes;
} byte_range;

typedef struct record_access {
    byte_range range;
    bool writes; // or reads and writes
} record_access;

typedef enum argument_kind { ARGUMENT_BUFFER, ARGUMENT_I32, ARGUMENT_I64, ARGUMENT_F32 } argument_kind;

// A BUFFER becomes two kernel arguments: the base of its chunk, and a 64-bit byte offset. offset -1: a null buffer.
typedef struct kernel_argument {
    argument_kind kind;
    union { int64_t offset; int32_t i32; int64_t i64; float f32; } as;
} kernel_argument;

// A kernel in one specialisation. Source is the text of a .k file or generated; defines is "-DX=1 -DY=f32".
typedef struct kernel_spec {
    const char *name;    // the entry
    const char *file;    // where the source comes from, for messages; "chain" for generated ones
    const char *source;
    const char *defines;
    int32_t group;       // work-group size, always 1-D
} kernel_spec;

typedef struct launch_record {
    int32_t kernel;  // index into program.kernel
    int32_t grid[3]; // in groups
    int32_t arguments;
    const kernel_argument *argument;
} launch_record;

// C[batch] = op(A[batch]) op(B[batch]), row-major, f32 accumulation, rounded once. Strides in elements.
typedef struct matmul_shape {
    brim_dtype in, out;
    int64_t m, n, k, batch;
    bool transpose_a, transpose_b;
    int64_t row_a, row_b, row_c;             // leading dimensions of the stored matrices
    int64_t batch_a, batch_b, batch_c;       // 0: broadcast
    int32_t alignment; // every matrix starts at a multiple of this many bytes: a power of two up to 256
} matmul_shape;

typedef struct matmul_record {
    matmul_shape shape;
    int64_t a, b, c, workspace; // byte offsets in the device space
    int64_t workspace_bytes;
} matmul_record;

// Between host and device or within the device, on a queue of the device; or from the file to the host (QUEUE_READ) and
// back (QUEUE_WRITE). The staging area holds the inputs of all micro-batches of a step: the host side of a copy that
// touches no file moves by host_stride times the micro-batch's index.
typedef struct copy_record {
    byte_range from, to;
    int64_t host_stride;
} copy_record;
typedef struct fill_record { byte_range range; uint32_t pattern; } fill_record; // bytes a multiple of 4

// As a launch, but on the CPU: a BUFFER argument is an offset into the host space. On QUEUE_HOST only, and all that it
// touches is in the host space.
typedef struct host_record {
    const host_kernel *kernel; // outlives the program
    int32_t arguments;
    const kernel_argument *argument;
} host_record;

typedef enum record_kind { RECORD_LAUNCH, RECORD_MATMUL, RECORD_COPY, RECORD_FILL, RECORD_HOST } record_kind;

// The first three are queues of the device; on the others threads of ours work.
typedef enum queue_id {
    QUEUE_COMPUTE,
    QUEUE_IN,
    QUEUE_OUT,
    DEVICE_QUEUES,
    QUEUE_HOST = DEVICE_QUEUES,
    QUEUE_READ,
    QUEUE_WRITE,
    QUEUE_COUNT
} queue_id;

typedef struct program_record {
    record_kind kind;
    queue_id queue;
    uint8_t sections; // SECTION_* bits: runs where its bit is set
    int32_t node;     // of the graph, for messages; -1: none
    const char *label;
    int32_t accesses, waits;
    const record_access *access;
    // Indices of records in other queues. What is waited for is such a record's latest run, whichever section and step it
    // was in: of the section or step before, where it stands later in the list; nothing, where it never ran.
    const int32_t *wait;
    union {
        launch_record launch;
        matmul_record matmul;
        copy_record copy;
        fill_record fill;
        host_record host;
    } as;
} program_record;

typedef struct program {
    arena *memory; // owns everything below
    program_record *record;
    kernel_spec *kernel;
    int32_t records, record_capacity, kernels, kernel_capacity;
    int64_t device_bytes, host_bytes, file_bytes; // extents of the spaces
    int32_t micro_batches;            // of a step, at least 1: FIRST, MIDDLE and LAST, or LAST alone
} program;

brim_status program_create(program **out, brim_error *err);
void program_free(program *p);
void program_print(const program *p, FILE *out);

// Append; what the record and the spec point to is copied. -1 on failure, else the index.
int32_t program_add_record(program *p, const program_record *record, brim_error *err);
int32_t program_add_kernel(program *p, const kernel_spec *spec, brim_error *err);

// The names that program_print and messages use: "launch", "compute", "first+last".
const char *record_kind_name(record_kind kind);
const char *queue_name(queue_id queue);
const char *space_name(memory_space space);
const char *sections_name(uint8_t sections);

// Gives every record the waits that the declared accesses need, whatever waits it had, and no wait that others imply.
brim_status program_order(program *p, brim_error *err);

// Proves that no wait is missing and that every access lies inside its space: steps are run one after another, without
// a wait on the host between them, each as its sections in order.
brim_status program_verify(const program *p, brim_error *err);

#endif
