#include <inttypes.h>
#include <math.h>
#include "graph/infer_rules.h"
#include "graph/shape.h"

// Contractions and reductions ---------------------------------------------------------------------

bool infer_matmul(inference *i) {
    const shape *a = &i->input[0].shape, *b = &i->input[1].shape;
    if (!infer_float(i, 0) || !infer_same_dtype(i, 0, 1) || !infer_rank(i, 0, 2, BRIM_MAX_DIMS) ||
        !infer_rank(i, 1, 2, BRIM_MAX_DIMS))
        return false;
    bool ta = i->attr->matmul.transpose_a, tb = i->attr->matmul.transpose_b;
    int64_t m = a->dim[a->rank - (ta ? 1 : 2)], ka = a->dim[a->rank - (ta ? 2 : 1)];
    int64_t kb = b->dim[b->rank - (tb ? 1 : 2)], n = b->dim[b->rank - (tb ? 2 : 1)];
    if (ka != kb)
        return infer_refuse(i, BRIM_SHAPE, "inner extents %" PRId64 "%s and %" PRId64 "%s differ",
                            ka, ta ? " (transposed)" : "", kb, tb ? " (transposed)" : "");
    shape lead_a = *a, lead_b = *b, s;
    lead_a.rank -= 2;
    lead_b.rank -= 2;
    if (!shape_broadcast(&lead_a, &lead_b, &s))
        return infer_refuse(i, BRIM_SHAPE, "the leading axes do not broadcast");
    s.dim[s.rank++] = m;
    s.dim[s.rank++] = n;
    return infer_set(i, 0, i->input[0].dtype, &s);
}

bool infer_reduce(inference *i) {
    const shape *x = &i->input[0].shape;
    uint32_t axes = i->attr->reduce.axes;
    if (!infer_float(i, 0)) return false;
    if (axes >> x->rank || (!axes && x->rank))
        return infer_refuse(i, BRIM_ARGUMENT,
                            "the bit set of axes is 0x%x, some of %d are expected", (unsigned)axes,
                            x->rank);
    shape s = {0};
    for (int k = 0; k < x->rank; k++) {
        bool reduced = axes >> k & 1;
        if (!reduced || i->attr->reduce.keep) s.dim[s.rank++] = reduced ? 1 : x->dim[k];
    }
    return infer_set(i, 0, i->op == OP_MAX ? i->input[0].dtype : BRIM_F32, &s);
}

// Rows of the last axis ---------------------------------------------------------------------------

bool infer_softmax(inference *i) {
    return infer_float(i, 0) && infer_rank(i, 0, 1, BRIM_MAX_DIMS) &&
           infer_set(i, 0, BRIM_F32, &i->input[0].shape);
}

bool infer_softmax_backward(inference *i) {
    return infer_float(i, 0) && infer_rank(i, 0, 1, BRIM_MAX_DIMS) && infer_same_dtype(i, 0, 1) &&
           infer_same_shape(i, 0, 1, "the result", "its gradient") &&
           infer_set(i, 0, i->input[0].dtype, &i->input[0].shape);
}

// Operand `input`: f32, one element for each of the last axis of operand x.
static bool is_parameter_of(inference *i, int input, int x, const char *what) {
    const shape *s = &i->input[x].shape;
    return infer_is(i, input, BRIM_F32) &&
           infer_shape_is(i, input, &(shape){.rank = 1, .dim = {s->dim[s->rank - 1]}}, what);
}

// Operand `input`: f32, one element for each row of operand x.
static bool is_statistic_of(inference *i, int input, int x, const char *what) {
    shape rows = infer_rows(&i->input[x].shape);
    return infer_is(i, input, BRIM_F32) && infer_shape_is(i, input, &rows, what);
}

static bool is_normal(inference *i, int x) {
    return infer_float(i, x) && infer_rank(i, x, 1, BRIM_MAX_DIMS);
}

static bool has_eps(inference *i) {
    float eps = i->attr->scalar[0];
    if (eps >= 0 && isfinite(eps)) return true;
    return infer_refuse(i, BRIM_ARGUMENT, "eps is %g, 0 or more is expected", (double)eps);
}

static bool set_norm(inference *i) {
    shape rows = infer_rows(&i->input[0].shape);
    infer_set(i, 0, i->input[0].dtype, &i->input[0].shape);
    for (int k = 1; k < i->outputs; k++) infer_set(i, k, BRIM_F32, &rows);
    return true;
}

bool infer_layer_norm(inference *i) {
    return is_normal(i, 0) && is_parameter_of(i, 1, 0, "the gain") &&
           is_parameter_of(i, 2, 0, "the bias") && has_eps(i) && set_norm(i);
}

bool infer_rms_norm(inference *i) {
    return is_normal(i, 0) && is_parameter_of(i, 1, 0, "the gain") && has_eps(i) && set_norm(i);
}

static bool is_gradient_pair(inference *i, int dy, int x) {
    return is_normal(i, x) && infer_same_dtype(i, dy, x) &&
           infer_same_shape(i, dy, x, "the gradient", "the value");
}

bool infer_layer_norm_backward(inference *i) {
    return is_gradient_pair(i, 0, 1) && is_parameter_of(i, 2, 1, "the gain") &&
           is_statistic_of(i, 3, 1, "the mean") && is_statistic_of(i, 4, 1, "rstd") &&
           infer_set(i, 0, i->input[1].dtype, &i->input[1].shape);
}

bool infer_rms_norm_backward(inference *i) {
    return is_gradient_pair(i, 0, 1) && is_parameter_of(i, 2, 1, "the gain") &&
           is_statistic_of(i, 3, 1, "rstd") &&
           infer_set(i, 0, i->input[1].dtype, &i->input[1].shape);
}

static bool set_parameters(inference *i) {
    const shape *x = &i->input[1].shape;
    shape s = {.rank = 1, .dim = {x->dim[x->rank - 1]}};
    for (int k = 0; k < i->outputs; k++) infer_set(i, k, BRIM_F32, &s);
    return true;
}

bool infer_layer_norm_backward_params(inference *i) {
    return is_gradient_pair(i, 0, 1) && is_statistic_of(i, 2, 1, "the mean") &&
           is_statistic_of(i, 3, 1, "rstd") && set_parameters(i);
}

bool infer_rms_norm_backward_params(inference *i) {
    return is_gradient_pair(i, 0, 1) && is_statistic_of(i, 2, 1, "rstd") && set_parameters(i);
}

// Operand 1: i32, one for each row of the logits.
static bool are_targets(inference *i) {
    if (!is_normal(i, 0) || !infer_is(i, 1, BRIM_I32)) return false;
    shape rows = infer_rows(&i->input[0].shape);
    return infer_shape_is(i, 1, &rows, "the targets' shape");
}

bool infer_cross_entropy(inference *i) {
    if (!are_targets(i)) return false;
    shape rows = infer_rows(&i->input[0].shape);
    return infer_set(i, 0, BRIM_F32, &rows) && infer_set(i, 1, BRIM_F32, &rows);
}

bool infer_cross_entropy_backward(inference *i) {
    return are_targets(i) && is_statistic_of(i, 2, 0, "logsumexp") &&
           is_statistic_of(i, 3, 0, "the gradient") &&
           infer_set(i, 0, i->input[0].dtype, &i->input[0].shape);
}

// x, the weight that projects it, and targets: i32, one for each row of x.
static bool are_projected_targets(inference *i) {
    const shape *x = &i->input[0].shape, *weight = &i->input[1].shape;
    if (!infer_float(i, 0) || !infer_same_dtype(i, 0, 1) || !infer_rank(i, 0, 2, BRIM_MAX_DIMS) ||
        !infer_rank(i, 1, 2, 2) || !infer_is(i, 2, BRIM_I32))
        return false;
    if (x->dim[x->rank - 1] != weight->dim[1])
        return infer_refuse(i, BRIM_SHAPE, "widths %" PRId64 " of x and %" PRId64 " of the weight",
                            x->dim[x->rank - 1], weight->dim[1]);
    if (i->attr->chunked_targets.chunk < 1)
        return infer_refuse(i, BRIM_ARGUMENT,
                            "a chunk of %" PRId64 " classes, one at least is expected",
                            i->attr->chunked_targets.chunk);
    shape rows = infer_rows(x);
    return infer_shape_is(i, 2, &rows, "the targets' shape");
}

bool infer_linear_cross_entropy(inference *i) {
    if (!are_projected_targets(i)) return false;
    shape rows = infer_rows(&i->input[0].shape);
    return infer_set(i, 0, BRIM_F32, &rows) && infer_set(i, 1, BRIM_F32, &rows);
}

bool infer_linear_cross_entropy_backward(inference *i) {
    return are_projected_targets(i) && is_statistic_of(i, 3, 0, "logsumexp") &&
           is_statistic_of(i, 4, 0, "the gradient") &&
           infer_set(i, 0, i->input[1].dtype, &i->input[1].shape) &&
           infer_set(i, 1, i->input[0].dtype, &i->input[0].shape);
}
