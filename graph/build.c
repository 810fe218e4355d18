#include "graph/build.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "core/alloc.h"
#include "core/dtype.h"
#include "graph/infer.h"
#include "graph/shape.h"

// Refusals ----------------------------------------------------------------------------------------

static bool is_value(const brim_graph *g, brim_value v) {
    return v.graph == g && v.id >= 0 && v.id < g->values;
}

static bool dtypes_differ(const brim_graph *g, const brim_value *operands, int count) {
    for (int i = 1; i < count; i++) {
        if (g->value[operands[i].id].dtype != g->value[operands[0].id].dtype) return true;
    }
    return false;
}

// `"name" [2, 3] f32, [3, 4] bf16 and [5] f32`; names and dtypes only where there are any to tell.
static void describe(const brim_graph *g, const brim_value *operands, int count, char *text,
                     size_t size) {
    bool dtypes = dtypes_differ(g, operands, count);
    size_t used = 0;
    for (int i = 0; i < count && used < size; i++) {
        const graph_value *v = &g->value[operands[i].id];
        char dims[SHAPE_TEXT];
        const char *between = i == 0 ? "" : i == count - 1 ? " and " : ", ";
        const char *quote = v->name ? "\"" : "";
        int n = snprintf(text + used, size - used, "%s%s%s%s%s%s%s%s", between, quote,
                         v->name ? v->name : "", quote, v->name ? " " : "",
                         shape_print(&v->shape, dims, sizeof dims), dtypes ? " " : "",
                         dtypes ? brim_dtype_name(v->dtype) : "");
        if (n < 0) return;
        used += (size_t)n;
    }
}

brim_value graph_refuse(brim_graph *g, brim_status status, const char *what,
                        const brim_value *operands, int count, const char *format, ...) {
    char reason[400], list[400] = "";
    va_list arguments;
    va_start(arguments, format);
    if (vsnprintf(reason, sizeof reason, format, arguments) < 0) reason[0] = '\0';
    va_end(arguments);
    for (int i = 0; i < count; i++) {
        if (!is_value(g, operands[i])) count = 0;
    }
    describe(g, operands, count, list, sizeof list);
    const char *verb = count == 0 ? "" : count == 1 ? " does not fit: " : " do not fit: ";
    brim_fail(g->err, status, "%s%s%s%s: %s%s%s", what, *g->scope ? " in scope \"" : "", g->scope,
              *g->scope ? "\"" : "", list, verb, reason);
    return GRAPH_INVALID;
}

brim_graph *graph_of(const char *what, const brim_value *operands, int count) {
    brim_graph *g = NULL;
    for (int i = 0; i < count && !g; i++) g = operands[i].graph;
    if (!g || failed(g->err)) return NULL;
    for (int i = 0; i < count; i++) {
        if (is_value(g, operands[i])) continue;
        bool stranger = operands[i].graph && operands[i].graph != g;
        graph_refuse(g, BRIM_GRAPH, what, NULL, 0, "operand %d is %s", i + 1,
                     stranger ? "a value of another graph" : "no value");
        return NULL;
    }
    return g;
}

bool graph_axis(const char *what, brim_value x, int *axis) {
    int rank = x.graph->value[x.id].shape.rank;
    if (*axis >= -rank && *axis < rank) {
        if (*axis < 0) *axis += rank;
        return true;
    }
    graph_refuse(x.graph, BRIM_ARGUMENT, what, &x, 1, "axis %d of %d axes", *axis, rank);
    return false;
}

// Attributes --------------------------------------------------------------------------------------

static const chain *copy_chain(brim_graph *g, const chain *from) {
    chain *copy = arena_alloc(g->memory, sizeof *copy, g->err);
    chain_step *step = arena_array(g->memory, (size_t)from->steps, sizeof *step, g->err);
    int16_t *output = arena_array(g->memory, (size_t)from->outputs, sizeof *output, g->err);
    if (!copy || !step || !output) return NULL;
    for (int i = 0; i < from->steps; i++) {
        step[i].op = from->step[i].op;
        step[i].dtype = from->step[i].dtype;
        for (int k = 0; k < op_table[step[i].op].inputs; k++)
            step[i].operand[k] = from->step[i].operand[k];
        for (int k = 0; k < 2; k++) step[i].scalar[k] = from->step[i].scalar[k];
    }
    memcpy(output, from->output, (size_t)from->outputs * sizeof *output);
    copy->steps = from->steps;
    copy->outputs = from->outputs;
    copy->step = step;
    copy->output = output;
    return copy;
}

// Only the op's own member, and only its axes, in zeroed bytes: equal attributes are equal under
// memcmp.
static bool copy_attr(brim_graph *g, op_id op, int rank, const brim_attr *from, brim_attr *to) {
    memset(to, 0, sizeof *to);
    switch (op_table[op].attr) {
    case ATTR_NONE:
        break;
    case ATTR_SCALARS:
        memcpy(to->scalar, from->scalar, sizeof to->scalar);
        break;
    case ATTR_CHAIN:
        to->chain = copy_chain(g, from->chain);
        return to->chain != NULL;
    case ATTR_PERMUTE:
        memcpy(to->axes, from->axes, (size_t)rank * sizeof *to->axes);
        break;
    case ATTR_SLICE:
        memcpy(to->start, from->start, (size_t)rank * sizeof *to->start);
        break;
    case ATTR_AXIS:
        to->axis = from->axis;
        break;
    case ATTR_MATMUL:
        to->matmul.transpose_a = from->matmul.transpose_a;
        to->matmul.transpose_b = from->matmul.transpose_b;
        break;
    case ATTR_REDUCE:
        to->reduce.axes = from->reduce.axes;
        to->reduce.keep = from->reduce.keep;
        break;
    case ATTR_TARGETS:
        to->targets.ignore = from->targets.ignore;
        break;
    case ATTR_CHUNKED_TARGETS:
        to->chunked_targets.ignore = from->chunked_targets.ignore;
        to->chunked_targets.chunk = from->chunked_targets.chunk;
        break;
    case ATTR_ATTENTION:
        to->attention.causal = from->attention.causal;
        to->attention.scale = from->attention.scale;
        break;
    case ATTR_ROWS:
        to->rows = from->rows;
        break;
    case ATTR_ROTARY:
        to->rotary.base = from->rotary.base;
        to->rotary.inverse = from->rotary.inverse;
        to->rotary.scaling = from->rotary.scaling;
        break;
    case ATTR_DROPOUT:
        to->dropout.p = from->dropout.p;
        to->dropout.stream = from->dropout.stream;
        break;
    case ATTR_OPTIMIZER:
        to->optimizer.beta1 = from->optimizer.beta1;
        to->optimizer.beta2 = from->optimizer.beta2;
        to->optimizer.eps = from->optimizer.eps;
        to->optimizer.decay = from->optimizer.decay;
        to->optimizer.lr_scale = from->optimizer.lr_scale;
        break;
    }
    return true;
}

// Nodes -------------------------------------------------------------------------------------------

// What a constructor asks for.
typedef struct request {
    op_id op;
    const brim_value *inputs;
    int count;
    const brim_attr *attr;
    const brim_dtype *dtype;
    const shape *shape;
} request;

// An UPDATE's outputs become the new contents of its first operands, which must be variables that
// nothing else writes.
static bool check_variables(brim_graph *g, const request *r, int outputs) {
    for (int k = 0; k < outputs; k++) {
        const graph_value *v = &g->value[r->inputs[k].id];
        const char *fault = NULL;
        if (!role_is_variable(v->role))
            fault = "is no parameter, state, copy or accumulator";
        else if (v->update >= 0)
            fault = "is updated already";
        for (int other = 0; other < k && !fault; other++) {
            if (r->inputs[other].id == r->inputs[k].id) fault = "is given twice";
        }
        if (!fault) continue;
        graph_refuse(g, BRIM_GRAPH, op_table[r->op].name, r->inputs, r->count,
                     "operand %d%s%s%s %s", k + 1, v->name ? " \"" : "", v->name ? v->name : "",
                     v->name ? "\"" : "", fault);
        return false;
    }
    return true;
}

static brim_value append(brim_graph *g, const request *r, const inference *found) {
    value_id *input = arena_array(g->memory, (size_t)r->count, sizeof *input, g->err);
    const char *scope = graph_scope_text(g);
    graph_node node = {.op = r->op,
                       .inputs = r->count,
                       .outputs = found->outputs,
                       .input = input,
                       .first_output = g->values,
                       .phase = g->phase,
                       .sections = SECTION_ALL,
                       .scope = scope};
    int rank = r->count ? found->input[0].shape.rank : 0;
    if (failed(g->err) || !copy_attr(g, r->op, rank, found->attr, &node.attr) ||
        !graph_reserve(g, 1, found->outputs))
        return GRAPH_INVALID;
    bool updates = op_table[r->op].family == FAMILY_UPDATE;
    for (int k = 0; k < r->count; k++) input[k] = r->inputs[k].id;
    for (int k = 0; k < found->outputs; k++) {
        if (updates) g->value[input[k]].update = g->values;
        g->value[g->values++] = (graph_value){.dtype = found->output[k].dtype,
                                              .shape = found->output[k].shape,
                                              .role = ROLE_RESULT,
                                              .producer = g->nodes,
                                              .output = (int8_t)k,
                                              .control = -1,
                                              .update = -1,
                                              .original = -1};
    }
    g->node[g->nodes++] = node;
    return graph_value_of(g, node.first_output);
}

static brim_value check_and_append(brim_graph *g, const request *r, const tensor_type *types) {
    static const brim_attr no_attr;
    const op_info *info = &op_table[r->op];
    inference found = {.op = r->op,
                       .attr = r->attr ? r->attr : &no_attr,
                       .inputs = r->count,
                       .input = types,
                       .dtype = r->dtype,
                       .shape = r->shape};
    if (!infer_types(&found))
        return graph_refuse(g, found.status, info->name, r->inputs, r->count, "%s", found.reason);
    if (info->family == FAMILY_UPDATE && !check_variables(g, r, found.outputs))
        return GRAPH_INVALID;
    return append(g, r, &found);
}

static brim_value make(brim_graph *g, const request *r) {
    enum { FEW = 10 };
    if (!g || failed(g->err)) return GRAPH_INVALID;
    if ((unsigned)r->op >= OP_COUNT) {
        brim_fail(g->err, BRIM_GRAPH, "there is no op %d", (int)r->op);
        return GRAPH_INVALID;
    }
    const char *name = op_table[r->op].name;
    if (r->count < 0 || !op_accepts(r->op, r->count))
        return graph_refuse(g, BRIM_GRAPH, name, r->inputs, r->count < 0 ? 0 : r->count,
                            "%d operands were given", r->count);
    for (int k = 0; k < r->count; k++) {
        if (is_value(g, r->inputs[k])) continue;
        bool stranger = r->inputs[k].graph && r->inputs[k].graph != g;
        return graph_refuse(g, BRIM_GRAPH, name, NULL, 0, "operand %d is %s", k + 1,
                            stranger ? "a value of another graph" : "no value");
    }
    tensor_type few[FEW], *many = NULL, *types = few;
    if (r->count > FEW) types = many = brim_calloc_array((size_t)r->count, sizeof *many, g->err);
    if (!types) return GRAPH_INVALID;
    for (int k = 0; k < r->count; k++) {
        const graph_value *v = &g->value[r->inputs[k].id];
        types[k] = (tensor_type){v->dtype, v->shape};
    }
    brim_value result = check_and_append(g, r, types);
    free(many);
    return result;
}

brim_value graph_op(brim_graph *g, op_id op, const brim_value *inputs, int count,
                    const brim_attr *attr) {
    return make(g, &(request){op, inputs, count, attr, NULL, NULL});
}

brim_value graph_op_as(brim_graph *g, op_id op, const brim_value *inputs, int count,
                       const brim_attr *attr, brim_dtype dtype) {
    return make(g, &(request){op, inputs, count, attr, &dtype, NULL});
}

brim_value graph_op_shaped(brim_graph *g, op_id op, const brim_value *inputs, int count,
                           const brim_attr *attr, brim_dtype dtype, const shape *s) {
    return make(g, &(request){op, inputs, count, attr, &dtype, s});
}

brim_value graph_cast(brim_value x, brim_dtype dtype) {
    brim_graph *g = graph_of("cast", &x, 1);
    if (!g || g->value[x.id].dtype == dtype) return g ? x : GRAPH_INVALID;
    return graph_op_as(g, OP_CAST, &x, 1, NULL, dtype);
}

// A finite number that becomes infinite in its dtype, or no integer in i32, is a mistake; kernels
// hold i32 constants as f32, exact up to 2^24.
static const char *constant_fault(brim_dtype dtype, double value) {
    if (dtype == BRIM_I32)
        return fabs(value) <= 0x1p24 && value == trunc(value)
                   ? NULL
                   : "an integer of up to 2^24 is expected";
    float stored = (float)value;
    uint16_t bits;
    if (dtype != BRIM_F32) {
        dtype_from_f32(dtype, &stored, &bits, 1);
        dtype_to_f32(dtype, &bits, &stored, 1);
    }
    if (isnan(value)) return "it is not a number";
    return isfinite(value) && !isfinite(stored) ? "it is too large" : NULL;
}

brim_value graph_constant(brim_graph *g, brim_dtype dtype, double value) {
    if (!g || failed(g->err)) return GRAPH_INVALID;
    const char *fault = constant_fault(dtype, value);
    if (fault)
        return graph_refuse(g, BRIM_ARGUMENT, "constant", NULL, 0, "%g as %s: %s", value,
                            brim_dtype_name(dtype), fault);
    brim_attr attr = {.scalar = {(float)value}};
    return graph_op_shaped(g, OP_CONSTANT, NULL, 0, &attr, dtype, &(shape){0});
}
