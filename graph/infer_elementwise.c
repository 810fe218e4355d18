#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include "core/alloc.h"
#include "core/dtype.h"
#include "graph/infer_rules.h"
#include "graph/shape.h"

static const shape scalar = {0};

// Sets output 0 to the shape that all operands broadcast to.
static bool broadcast(inference *i, brim_dtype dtype) {
    shape s = i->input[0].shape;
    for (int k = 1; k < i->inputs; k++) {
        const shape *x = &i->input[k].shape;
        if (shape_broadcast(&s, x, &s)) continue;
        int a = s.rank - 1, b = x->rank - 1;
        for (; s.dim[a] == x->dim[b] || s.dim[a] == 1 || x->dim[b] == 1; a--) b--;
        return infer_refuse(i, BRIM_SHAPE,
                            "extents %" PRId64 " and %" PRId64 " (axis %d) differ and neither is 1",
                            s.dim[a], x->dim[b], a - s.rank);
    }
    return infer_set(i, 0, dtype, &s);
}

bool infer_constant(inference *i) {
    if (i->shape && i->shape->rank != 0)
        return infer_refuse(i, BRIM_SHAPE,
                            "a constant is a scalar; brim_broadcast makes it larger");
    if (isnan(i->attr->scalar[0])) return infer_refuse(i, BRIM_ARGUMENT, "its value is NaN");
    return infer_set(i, 0, i->dtype ? *i->dtype : BRIM_F32, &scalar);
}

bool infer_cast(inference *i) {
    if (!i->dtype) return infer_refuse(i, BRIM_ARGUMENT, "no dtype was given");
    return infer_set(i, 0, *i->dtype, &i->input[0].shape);
}

bool infer_unary_any(inference *i) {
    return infer_set(i, 0, i->input[0].dtype, &i->input[0].shape);
}

bool infer_unary_float(inference *i) {
    return infer_float(i, 0) && infer_unary_any(i);
}

bool infer_pow(inference *i) {
    if (!isfinite(i->attr->scalar[0]))
        return infer_refuse(i, BRIM_ARGUMENT, "the exponent is not finite");
    return infer_unary_float(i);
}

bool infer_clamp(inference *i) {
    float low = i->attr->scalar[0], high = i->attr->scalar[1];
    if (!(low <= high))
        return infer_refuse(i, BRIM_ARGUMENT, "the limits are %g and %g, low <= high is expected",
                            (double)low, (double)high);
    return infer_unary_float(i);
}

bool infer_binary_any(inference *i) {
    return infer_same_dtype(i, 0, 1) && broadcast(i, i->input[0].dtype);
}

bool infer_binary_float(inference *i) {
    return infer_float(i, 0) && infer_binary_any(i);
}

bool infer_where(inference *i) {
    return infer_same_dtype(i, 1, 2) && broadcast(i, i->input[1].dtype);
}

// Chains ------------------------------------------------------------------------------------------

// The type of one step, given those of the chain's inputs and of earlier steps.
static bool infer_step(inference *i, int index, tensor_type *types) {
    const chain_step *step = &i->attr->chain->step[index];
    if ((unsigned)step->op >= OP_COUNT || op_table[step->op].family != FAMILY_ELEMENTWISE ||
        step->op == OP_FUSED)
        return infer_refuse(i, BRIM_GRAPH, "step %d is not an elementwise op", index);
    tensor_type operand[3];
    int operands = op_table[step->op].inputs;
    for (int k = 0; k < operands; k++) {
        int from = step->operand[k];
        if (from >= index || (from < 0 && ~from >= i->inputs))
            return infer_refuse(i, BRIM_GRAPH, "step %d reads operand %d, which does not exist",
                                index, from);
        operand[k] = from < 0 ? i->input[~from] : types[from];
    }
    brim_attr attr = {.scalar = {step->scalar[0], step->scalar[1]}};
    inference one = {
        .op = step->op, .attr = &attr, .inputs = operands, .input = operand, .dtype = &step->dtype};
    if (!infer_types(&one))
        return infer_refuse(i, one.status, "step %d, %s: %.200s", index, op_table[step->op].name,
                            one.reason);
    types[index] = one.output[0];
    return true;
}

static bool infer_steps(inference *i, tensor_type *types) {
    const chain *c = i->attr->chain;
    shape whole = scalar;
    for (int k = 0; k < c->steps; k++) {
        if (!infer_step(i, k, types)) return false;
        if (!shape_broadcast(&whole, &types[k].shape, &whole))
            return infer_refuse(i, BRIM_SHAPE, "step %d does not broadcast into the chain", k);
    }
    for (int k = 0; k < c->outputs; k++) {
        int step = c->output[k];
        if (step < 0 || step >= c->steps)
            return infer_refuse(i, BRIM_GRAPH, "output %d is step %d, which does not exist", k,
                                step);
        // The kernel visits each element of the chain's shape once and writes all outputs there.
        if (!shape_equal(&types[step].shape, &whole))
            return infer_refuse(i, BRIM_SHAPE, "output %d has not the chain's shape", k);
        i->output[k] = types[step];
    }
    return true;
}

bool infer_fused(inference *i) {
    const chain *c = i->attr->chain;
    if (!c || c->steps < 1 || c->outputs < 1 || c->outputs > GRAPH_MAX_OUTPUTS || !c->step ||
        !c->output)
        return infer_refuse(i, BRIM_GRAPH,
                            "a chain of 1 or more steps with 1 to %d outputs is expected",
                            GRAPH_MAX_OUTPUTS);
    brim_error err = {0};
    tensor_type *types = brim_calloc_array((size_t)c->steps, sizeof *types, &err);
    if (!types) return infer_refuse(i, err.status, "%.200s", err.text);
    i->outputs = c->outputs;
    bool fits = infer_steps(i, types);
    free(types);
    return fits;
}
