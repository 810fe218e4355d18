// Lowering: a scheduled, planned graph becomes a program for one kind of device.
//
// kernel_table.c has one row per op: a function that emits the op's records, and one that tells its workspace. Rules are
// grouped by family (lower_elementwise.c, lower_rows.c, ...). They see operands as bytes with strides, and the
// device as traits; they never see a driver.
#ifndef BRIM_BACKENDS_LOWER_H
#define BRIM_BACKENDS_LOWER_H

#include "backends/backend.h"
#include "graph/graph.h"
#include "graph/memory_plan.h"

typedef struct operand {
    brim_dtype dtype;
    shape shape;
    int64_t stride[BRIM_MAX_DIMS]; // in elements
    int64_t offset;                // bytes in its space: the host's for a node that runs there
    byte_range range;              // the bytes it may touch (its extent, or its whole storage where strided)
} operand;

typedef struct lowering {
    const brim_graph *graph;
    const graph_layout *layout;
    const memory_plan *plan;
    const device_traits *traits;
    const backend *backend;
    backend_device *device;
    program *program;
    const graph_node *node;
    node_id node_index;
    int32_t position; // of the node in the schedule
    uint8_t sections; // of the records being emitted
    // The section that a step's first micro-batch runs: SECTION_FIRST, or SECTION_LAST where there is only one. (A rule
    // that does something else in it, as ACCUMULATE, narrows `sections` for each of its records.)
    uint8_t first_section;
    int32_t micro_batches;
    brim_error *err;
} lowering;

operand lower_input(const lowering *l, int input);
operand lower_output(const lowering *l, int output);
operand lower_value(const lowering *l, value_id id);
// The box of shape s that starts at start[].
operand lower_part(const operand *x, const int64_t *start, const shape *s);
byte_range lower_workspace(const lowering *l); // bytes 0: none

// Finds or adds a kernel: `file` is the name of a file in kernels/ ("attention_forward"); defines is printf-like. The
// traits' VEC, GROUP and device kind are added by the call; group 0 means the traits' own.
int lower_kernel(lowering *l, const char *file, const char *entry, int group, const char *defines, ...)
    __attribute__((format(printf, 5, 6)));
// The same for generated source.
int lower_generated_kernel(lowering *l, const char *entry, const char *source, int group, const char *defines);

// Emits a launch. Buffer arguments are made by arg_read / arg_write so that each access is declared.
typedef struct launch_argument {
    kernel_argument argument;
    byte_range range; // buffers: what is touched
    bool writes;
} launch_argument;
launch_argument arg_read(const operand *x);
launch_argument arg_write(const operand *x);
launch_argument arg_bytes(byte_range range, bool writes);
launch_argument arg_null(void);
launch_argument arg_i32(int64_t x); // checked to fit
launch_argument arg_i64(int64_t x);
launch_argument arg_f32(double x);
void lower_launch(lowering *l, int kernel, const int64_t grid[3], const launch_argument *arguments, int count);
#define LOWER_LAUNCH(l, kernel, gx, gy, gz, ...)                                                   \
    lower_launch(l, kernel, (const int64_t[3]){gx, gy, gz}, (const launch_argument[]){__VA_ARGS__}, \
                 (int)(sizeof((const launch_argument[]){__VA_ARGS__}) / sizeof(launch_argument)))
void lower_matmul_record(lowering *l, const matmul_record *record, const operand *a, const operand *b, const operand *c);
// A node that runs on the host: `kernel` names one of backends/host_kernels.h. Operands lie in the host space.
bool lower_on_host(const lowering *l);
void lower_host(lowering *l, const char *kernel, const launch_argument *arguments, int count);
#define LOWER_HOST(l, kernel, ...)                                                                 \
    lower_host(l, kernel, (const launch_argument[]){__VA_ARGS__},                                  \
               (int)(sizeof((const launch_argument[]){__VA_ARGS__}) / sizeof(launch_argument)))
void lower_fill(lowering *l, byte_range range, uint32_t pattern);
void lower_copy(lowering *l, byte_range from, byte_range to);
// Between two spaces, on the queue of that way; `name` is the label.
void lower_transfer(lowering *l, byte_range from, byte_range to, const char *name);
// With a host side that moves from one micro-batch to the next; `name` is the label.
void lower_staged_copy(lowering *l, byte_range from, byte_range to, int64_t host_stride, const char *name);

typedef void (*lower_rule)(lowering *l);
typedef int64_t (*workspace_rule)(const lowering *l); // before planning: operands have no offsets yet

typedef struct kernel_row {
    lower_rule lower;
    workspace_rule workspace; // NULL: none
} kernel_row;
extern const kernel_row kernel_table[OP_COUNT];

// For plan_request: workspace = lower_workspace_bytes, user = a workspace_request.
typedef struct workspace_request {
    const graph_layout *layout;
    const backend *backend;
    backend_device *device;
    brim_error *err; // set where a rule fails; look after planning
} workspace_request;
int64_t lower_workspace_bytes(const brim_graph *g, node_id node, void *request);

// The whole graph. At the start of each section the inputs and the control block are copied from the staging area (one
// slot per micro-batch); at the end of LAST the named results are copied to it. The program has passed program_verify.
typedef struct staging_place { value_id value; int64_t offset, bytes; } staging_place;
typedef struct lowered {
    program *program;
    int64_t staging;               // where the staging area begins in the host space; the offsets are within it
    staging_place *input, *result; // inputs in order of value id, results in order of graph->result
    int32_t inputs, results;
    int64_t control_offset; // of the control block in slot 0
    int64_t slot_bytes;     // inputs and control of micro-batch i are i * slot_bytes further
} lowered;
brim_status lower_graph(const brim_graph *g, const graph_layout *layout, const graph_schedule *schedule,
                        const memory_plan *plan, int32_t micro_batches, const backend *b,
                        backend_device *device, lowered *out, brim_error *err);
void lowered_free(lowered *l);

#endif
