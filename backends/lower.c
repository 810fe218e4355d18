#include "backends/lower.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include "backends/kernel_source.h"
#include "core/alloc.h"
#include "core/size.h"
#include "core/strbuf.h"

// ---- operands -----------------------------------------------------------------------------------

// From the first to the last byte that an operand's strides reach.
static byte_range operand_range(const operand *x) {
    int64_t last = 0, bytes = (int64_t)brim_dtype_bytes(x->dtype);
    for (int i = 0; i < x->shape.rank; i++) last += (x->shape.dim[i] - 1) * x->stride[i];
    return (byte_range){x->range.space, x->offset, (last + 1) * bytes};
}

bool lower_on_host(const lowering *l) {
    return l->plan && l->node && l->plan->on_host[l->node_index];
}

// Inputs and results, which no node has, are at home on the device.
static void place_operand(const lowering *l, value_id storage, operand *x) {
    if (!l->plan) return;
    memory_space space = lower_on_host(l) ? SPACE_HOST : SPACE_DEVICE;
    const storage_place *place = memory_plan_place(l->plan, storage, space, l->position);
    if (place->space != space)
        brim_fail(l->err, BRIM_GRAPH, "value %d is not where it is used", storage);
    x->range.space = space;
    x->offset += place->offset;
}

operand lower_value(const lowering *l, value_id id) {
    const graph_value *v = &l->graph->value[id];
    const value_layout *place = &l->layout->of[id];
    operand x = {.dtype = v->dtype, .shape = v->shape};
    memcpy(x.stride, place->stride, sizeof x.stride);
    x.offset = place->offset * (int64_t)brim_dtype_bytes(v->dtype);
    place_operand(l, place->storage, &x);
    x.range = operand_range(&x);
    return x;
}

operand lower_input(const lowering *l, int input) {
    return lower_value(l, l->node->input[input]);
}

operand lower_output(const lowering *l, int output) {
    return lower_value(l, l->node->first_output + output);
}

operand lower_part(const operand *x, const int64_t *start, const shape *s) {
    operand part = *x;
    part.shape = *s;
    for (int i = 0; i < s->rank; i++)
        part.offset += start[i] * x->stride[i] * (int64_t)brim_dtype_bytes(x->dtype);
    part.range = operand_range(&part);
    return part;
}

byte_range lower_workspace(const lowering *l) {
    byte_range none = {.space = SPACE_DEVICE};
    if (!l->plan) return none;
    const storage_place *place = &l->plan->workspace[l->node_index];
    return place->bytes > 0 ? (byte_range){SPACE_DEVICE, place->offset, place->bytes} : none;
}

// ---- kernels ------------------------------------------------------------------------------------

static int find_kernel(lowering *l, const kernel_spec *spec) {
    program *p = l->program;
    for (int i = 0; i < p->kernels; i++) {
        const kernel_spec *k = &p->kernel[i];
        if (k->group == spec->group && !strcmp(k->name, spec->name) &&
            !strcmp(k->file, spec->file) && !strcmp(k->defines, spec->defines) &&
            !strcmp(k->source, spec->source))
            return i;
    }
    return program_add_kernel(p, spec, l->err);
}

static int specialise(lowering *l, const char *file, const char *entry, const char *source,
                      int group, const char *defines) {
    strbuf text = {.err = l->err};
    if (!group) group = l->traits->group;
    strbuf_printf(&text, "-DVEC=%d -DGROUP=%d -DBRIM_CPU=%d%s%s", l->traits->vec, group,
                  l->traits->cpu, *defines ? " " : "", defines);
    kernel_spec spec = {entry, file, source, strbuf_text(&text), group};
    int index = failed(l->err) ? -1 : find_kernel(l, &spec);
    strbuf_free(&text);
    return index;
}

int lower_kernel(lowering *l, const char *file, const char *entry, int group, const char *defines,
                 ...) {
    char name[64];
    snprintf(name, sizeof name, "%s.k", file);
    const char *source = kernel_source_find(name);
    if (!source) {
        brim_fail(l->err, BRIM_UNSUPPORTED, "this build has no kernel file %s", name);
        return -1;
    }
    strbuf text = {.err = l->err};
    va_list arguments;
    va_start(arguments, defines);
    strbuf_vprintf(&text, defines, arguments);
    va_end(arguments);
    int index = specialise(l, name, entry, source, group, strbuf_text(&text));
    strbuf_free(&text);
    return index;
}

int lower_generated_kernel(lowering *l, const char *entry, const char *source, int group,
                           const char *defines) {
    return specialise(l, "chain", entry, source, group, defines);
}

// ---- arguments ----------------------------------------------------------------------------------

static launch_argument buffer(byte_range range, int64_t offset, bool writes) {
    return (launch_argument){{ARGUMENT_BUFFER, {.offset = offset}}, range, writes};
}

launch_argument arg_read(const operand *x) {
    return buffer(x->range, x->offset, false);
}
launch_argument arg_write(const operand *x) {
    return buffer(x->range, x->offset, true);
}
launch_argument arg_bytes(byte_range range, bool writes) {
    return buffer(range, range.offset, writes);
}
launch_argument arg_null(void) {
    return buffer((byte_range){SPACE_DEVICE, 0, 0}, -1, false);
}

// A 32-bit argument that does not fit is carried as 64 bits: lower_launch, which has an error to
// set, refuses it.
launch_argument arg_i32(int64_t x) {
    if (x < INT32_MIN || x > INT32_MAX)
        return (launch_argument){.argument = {ARGUMENT_I32, {.i64 = x}}, .writes = true};
    return (launch_argument){.argument = {ARGUMENT_I32, {.i32 = (int32_t)x}}};
}

launch_argument arg_i64(int64_t x) {
    return (launch_argument){.argument = {ARGUMENT_I64, {.i64 = x}}};
}

launch_argument arg_f32(double x) {
    return (launch_argument){.argument = {ARGUMENT_F32, {.f32 = (float)x}}};
}

// ---- records ------------------------------------------------------------------------------------

static const char *make_label(lowering *l, const char *name) {
    const char *scope = l->node && l->node->scope ? l->node->scope : "";
    return arena_printf(l->program->memory, l->err, "%s%s%s", scope, *scope ? " " : "", name);
}

static void add_record(lowering *l, program_record *record) {
    record->sections = l->sections;
    record->node = l->node_index;
    program_add_record(l->program, record, l->err);
}

static const char *op_label(lowering *l, const char *otherwise) {
    return make_label(l, l->node ? op_table[l->node->op].name : otherwise);
}

enum { MAX_SIDE_GROUPS = 65535 }; // along the second and third axis of a grid, in CUDA

static bool check_grid(lowering *l, const int64_t grid[3], const char *name) {
    for (int i = 0; i < 3; i++) {
        int64_t limit = i ? MAX_SIDE_GROUPS : INT32_MAX;
        if (grid[i] < 1 || grid[i] > limit) {
            brim_fail(l->err, BRIM_UNSUPPORTED,
                      "kernel %s: %" PRId64 " groups along axis %d of the grid; 1 to %" PRId64
                      " are possible",
                      name, grid[i], i, limit);
            return false;
        }
    }
    return true;
}

void lower_launch(lowering *l, int kernel, const int64_t grid[3], const launch_argument *arguments,
                  int count) {
    if (failed(l->err) || kernel < 0) return;
    const char *name = l->program->kernel[kernel].name;
    if (!check_grid(l, grid, name)) return;
    kernel_argument *argument = brim_calloc_array((size_t)count, sizeof *argument, l->err);
    record_access *access = brim_calloc_array((size_t)count, sizeof *access, l->err);
    program_record r = {.kind = RECORD_LAUNCH, .access = access};
    r.label = make_label(l, l->node && l->node->op != OP_FUSED ? op_table[l->node->op].name : name);
    for (int i = 0; i < count && !failed(l->err); i++) {
        const launch_argument *a = &arguments[i];
        argument[i] = a->argument;
        if (a->argument.kind == ARGUMENT_BUFFER && a->range.bytes)
            access[r.accesses++] = (record_access){a->range, a->writes};
        else if (a->argument.kind == ARGUMENT_I32 && a->writes)
            brim_fail(l->err, BRIM_UNSUPPORTED,
                      "kernel %s: argument %d is %" PRId64 ", which does not fit into 32 bits",
                      name, i, a->argument.as.i64);
    }
    r.as.launch = (launch_record){
        kernel, {(int32_t)grid[0], (int32_t)grid[1], (int32_t)grid[2]}, count, argument};
    add_record(l, &r);
    free(argument);
    free(access);
}

// As lower_launch; what a launch's arguments are for the device, these are for the host.
void lower_host(lowering *l, const char *kernel, const launch_argument *arguments, int count) {
    kernel_argument *argument = brim_calloc_array((size_t)count, sizeof *argument, l->err);
    record_access *access = brim_calloc_array((size_t)count, sizeof *access, l->err);
    program_record r = {.kind = RECORD_HOST, .queue = QUEUE_HOST, .access = access};
    r.as.host = (host_record){host_kernel_find(kernel), count, argument};
    r.label = op_label(l, kernel);
    if (!r.as.host.kernel)
        brim_fail(l->err, BRIM_UNSUPPORTED, "there is no kernel \"%s\" for the host", kernel);
    for (int i = 0; i < count && !failed(l->err); i++) {
        argument[i] = arguments[i].argument;
        if (argument[i].kind == ARGUMENT_BUFFER && arguments[i].range.bytes)
            access[r.accesses++] = (record_access){arguments[i].range, arguments[i].writes};
    }
    if (!failed(l->err)) add_record(l, &r);
    free(argument);
    free(access);
}

void lower_matmul_record(lowering *l, const matmul_record *record, const operand *a,
                         const operand *b, const operand *c) {
    record_access access[] = {{a->range, false},
                              {b->range, false},
                              {c->range, true},
                              {{SPACE_DEVICE, record->workspace, record->workspace_bytes}, true}};
    program_record r = {.kind = RECORD_MATMUL, .access = access};
    r.accesses = record->workspace_bytes ? 4 : 3;
    r.label = op_label(l, "matmul");
    r.as.matmul = *record;
    add_record(l, &r);
}

void lower_fill(lowering *l, byte_range range, uint32_t pattern) {
    record_access access = {range, true};
    program_record r = {.kind = RECORD_FILL, .access = &access, .accesses = 1};
    r.label = op_label(l, "fill");
    r.as.fill = (fill_record){range, pattern};
    add_record(l, &r);
}

static void emit_copy(lowering *l, byte_range from, byte_range to, int64_t host_stride,
                      const char *label) {
    record_access access[] = {{from, false}, {to, true}};
    program_record r = {.kind = RECORD_COPY, .access = access, .accesses = 2, .label = label};
    r.as.copy = (copy_record){from, to, host_stride};
    add_record(l, &r);
}

void lower_copy(lowering *l, byte_range from, byte_range to) {
    emit_copy(l, from, to, 0, op_label(l, "copy"));
}

void lower_transfer(lowering *l, byte_range from, byte_range to, const char *name) {
    static const queue_id queues[SPACES][SPACES] = {
        [SPACE_HOST][SPACE_DEVICE] = QUEUE_IN,
        [SPACE_DEVICE][SPACE_HOST] = QUEUE_OUT,
        [SPACE_FILE][SPACE_HOST] = QUEUE_READ,
        [SPACE_HOST][SPACE_FILE] = QUEUE_WRITE,
    };
    record_access access[] = {{from, false}, {to, true}};
    program_record r = {.kind = RECORD_COPY,
                        .queue = queues[from.space][to.space],
                        .access = access,
                        .accesses = 2,
                        .label = name};
    r.as.copy = (copy_record){from, to, 0};
    add_record(l, &r);
}

void lower_staged_copy(lowering *l, byte_range from, byte_range to, int64_t host_stride,
                       const char *name) {
    emit_copy(l, from, to, host_stride, name);
}
