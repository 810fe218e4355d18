#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include "graph/infer_rules.h"
#include "graph/shape.h"

enum { LARGEST_HEAD = 256 };

// Attention ---------------------------------------------------------------------------------------

static bool is_attention_shape(inference *i) {
    for (int k = 0; k < 3; k++) {
        if (!infer_float(i, k) || !infer_same_dtype(i, 0, k) || !infer_rank(i, k, 4, 4))
            return false;
    }
    const int64_t *q = i->input[0].shape.dim, *k = i->input[1].shape.dim;
    if (!infer_same_shape(i, 1, 2, "k", "v")) return false;
    if (q[0] != k[0])
        return infer_refuse(i, BRIM_SHAPE, "batches %" PRId64 " and %" PRId64 " differ", q[0],
                            k[0]);
    if (q[3] != k[3])
        return infer_refuse(i, BRIM_SHAPE, "head sizes %" PRId64 " and %" PRId64 " differ", q[3],
                            k[3]);
    if (q[2] % k[2])
        return infer_refuse(i, BRIM_SHAPE,
                            "%" PRId64 " heads of q are no multiple of %" PRId64 " of k and v",
                            q[2], k[2]);
    if (q[3] > LARGEST_HEAD)
        return infer_refuse(i, BRIM_SHAPE, "the head size is %" PRId64 ", up to %d is expected",
                            q[3], LARGEST_HEAD);
    if (i->attr->attention.causal && k[1] < q[1])
        return infer_refuse(
            i, BRIM_SHAPE,
            "causal attention of %" PRId64 " queries needs as many keys, not %" PRId64, q[1], k[1]);
    float scale = i->attr->attention.scale;
    if (!(scale > 0 && isfinite(scale)))
        return infer_refuse(i, BRIM_ARGUMENT, "the scale is %g, more than 0 is expected",
                            (double)scale);
    return true;
}

// The optional operand `input`: i32 [B, T], of self-attention only.
static bool are_segments(inference *i, int input) {
    if (input >= i->inputs) return true;
    const int64_t *q = i->input[0].shape.dim, *k = i->input[1].shape.dim;
    if (q[1] != k[1])
        return infer_refuse(i, BRIM_SHAPE,
                            "segments need as many keys as queries, not %" PRId64 " and %" PRId64,
                            k[1], q[1]);
    return infer_is(i, input, BRIM_I32) &&
           infer_shape_is(i, input, &(shape){.rank = 2, .dim = {q[0], q[1]}},
                          "the segments' shape");
}

static shape logsumexp_shape(const inference *i) {
    const int64_t *q = i->input[0].shape.dim;
    return (shape){.rank = 3, .dim = {q[0], q[2], q[1]}};
}

bool infer_attention(inference *i) {
    if (!is_attention_shape(i) || !are_segments(i, 3)) return false;
    shape rows = logsumexp_shape(i);
    return infer_set(i, 0, i->input[0].dtype, &i->input[0].shape) &&
           infer_set(i, 1, BRIM_F32, &rows);
}

bool infer_attention_backward(inference *i) {
    if (!is_attention_shape(i) || !are_segments(i, 6)) return false;
    shape rows = logsumexp_shape(i);
    if (!infer_same_dtype(i, 0, 3) || !infer_same_shape(i, 0, 3, "q", "o") ||
        !infer_is(i, 4, BRIM_F32) || !infer_shape_is(i, 4, &rows, "logsumexp") ||
        !infer_same_dtype(i, 0, 5) || !infer_same_shape(i, 0, 5, "q", "the gradient"))
        return false;
    for (int k = 0; k < 3; k++) infer_set(i, k, i->input[k].dtype, &i->input[k].shape);
    return true;
}

// Gathers and positions ---------------------------------------------------------------------------

static bool set_with_rows(inference *i, int ids, int64_t width, brim_dtype dtype) {
    shape s = i->input[ids].shape;
    if (s.rank == BRIM_MAX_DIMS)
        return infer_refuse(i, BRIM_SHAPE, "the ids have %d axes, up to %d are expected", s.rank,
                            BRIM_MAX_DIMS - 1);
    s.dim[s.rank++] = width;
    return infer_set(i, 0, dtype, &s);
}

bool infer_embedding(inference *i) {
    return infer_float(i, 0) && infer_rank(i, 0, 2, 2) && infer_is(i, 1, BRIM_I32) &&
           set_with_rows(i, 1, i->input[0].shape.dim[1], i->input[0].dtype);
}

bool infer_embedding_backward(inference *i) {
    const shape *dy = &i->input[1].shape;
    if (!infer_is(i, 0, BRIM_I32) || !infer_float(i, 1) || !infer_rank(i, 1, 1, BRIM_MAX_DIMS))
        return false;
    shape rows = infer_rows(dy);
    if (!infer_shape_is(i, 0, &rows, "the ids' shape")) return false;
    shape s = {.rank = 2, .dim = {i->attr->rows, dy->dim[dy->rank - 1]}};
    return infer_set(i, 0, i->input[1].dtype, &s);
}

static bool is_scaling(inference *i) {
    const brim_rotary_scaling *s = &i->attr->rotary.scaling;
    if (s->factor == 0) return true;
    bool fine = s->factor > 0 && isfinite(s->factor) && s->low >= 0 && s->high > s->low &&
                isfinite(s->high) && s->length > 0 && isfinite(s->length);
    return fine ||
           infer_refuse(i, BRIM_ARGUMENT,
                        "scaling by %g from %g to %g turns in %g tokens; numbers above 0 in "
                        "rising order are expected",
                        s->factor, s->low, s->high, s->length);
}

bool infer_rotary(inference *i) {
    const int64_t *x = i->input[0].shape.dim;
    double base = i->attr->rotary.base;
    if (!infer_float(i, 0) || !infer_rank(i, 0, 4, 4)) return false;
    if (x[3] % 2)
        return infer_refuse(i, BRIM_SHAPE, "the head size is %" PRId64 ", an even one is expected",
                            x[3]);
    if (!(base > 0 && isfinite(base)))
        return infer_refuse(i, BRIM_ARGUMENT, "the base is %g, more than 0 is expected", base);
    if (!is_scaling(i)) return false;
    if (i->inputs > 1 &&
        (!infer_is(i, 1, BRIM_I32) ||
         !infer_shape_is(i, 1, &(shape){.rank = 2, .dim = {x[0], x[1]}}, "the positions' shape")))
        return false;
    return infer_set(i, 0, i->input[0].dtype, &i->input[0].shape);
}

static bool is_scalar(inference *i, int input, brim_dtype dtype, const char *what) {
    return infer_is(i, input, dtype) && infer_shape_is(i, input, &(shape){0}, what);
}

bool infer_dropout(inference *i) {
    float p = i->attr->dropout.p;
    if (!(p >= 0 && p < 1))
        return infer_refuse(i, BRIM_ARGUMENT, "p is %g, 0 <= p < 1 is expected", (double)p);
    return infer_float(i, 0) && is_scalar(i, 1, BRIM_I32, "the seed") &&
           is_scalar(i, 2, BRIM_I32, "the step") && is_scalar(i, 3, BRIM_I32, "the micro-batch") &&
           infer_set(i, 0, i->input[0].dtype, &i->input[0].shape);
}

// Updates -----------------------------------------------------------------------------------------

bool infer_accumulate(inference *i) {
    return infer_float(i, 0) && infer_same_dtype(i, 0, 1) &&
           infer_same_shape(i, 0, 1, "the variable", "what is added") &&
           infer_set(i, 0, i->input[0].dtype, &i->input[0].shape);
}

// Constants in [0, limit).
static bool in_range(inference *i, const char *what, float x, float limit) {
    if (x >= 0 && x < limit) return true;
    return infer_refuse(i, BRIM_ARGUMENT, "%s is %g, 0 <= %s < %g is expected", what, (double)x,
                        what, (double)limit);
}

// An operand of an update that is a tensor like the parameter.
static bool is_update_tensor(inference *i, int input, bool copy, const char *what) {
    brim_dtype dtype = i->input[input].dtype;
    if (copy && dtype != BRIM_F16 && dtype != BRIM_BF16)
        return infer_refuse(i, BRIM_SHAPE, "the compute copy is %s, f16 or bf16 is expected",
                            brim_dtype_name(dtype));
    return (copy || infer_is(i, input, BRIM_F32)) &&
           infer_same_shape(i, 0, input, "the parameter", what);
}

// What follows the gradient is f32 scalars.
static bool has_factors(inference *i, int first) {
    const brim_attr *a = i->attr;
    for (int k = first; k < i->inputs; k++) {
        if (!is_scalar(i, k, BRIM_F32, "a factor")) return false;
    }
    return in_range(i, "beta1", a->optimizer.beta1, 1) &&
           in_range(i, "decay", a->optimizer.decay, INFINITY) &&
           in_range(i, "lr_scale", a->optimizer.lr_scale, INFINITY);
}

// The parameter, its states, a compute copy where the op writes one more output, and the gradient
// are of one shape, f32 except for the copy.
static bool is_update(inference *i, int states) {
    static const char *const what[] = {"the parameter", "the state m", "the state v"};
    int variables = i->outputs, copy = variables > states + 1 ? states + 1 : -1;
    for (int k = 0; k <= variables; k++) {
        const char *name = k == variables ? "its gradient" : k == copy ? "its copy" : what[k];
        if (!is_update_tensor(i, k, k == copy, name)) return false;
        if (k < variables) infer_set(i, k, i->input[k].dtype, &i->input[k].shape);
    }
    return has_factors(i, variables + 1);
}

// A state as 8-bit blocks: its codes and its scales.
static bool is_quantised(inference *i, int input, const char *what) {
    int64_t blocks = state_blocks(shape_elements(&i->input[0].shape));
    shape codes = {1, {blocks * STATE_BLOCK_WORDS}}, scales = {1, {blocks}};
    char name[64];
    snprintf(name, sizeof name, "the scales of %s", what);
    return infer_is(i, input, BRIM_I32) && infer_is(i, input + 1, BRIM_F32) &&
           infer_shape_is(i, input, &codes, what) && infer_shape_is(i, input + 1, &scales, name);
}

static bool has_adamw_constants(inference *i) {
    return in_range(i, "beta2", i->attr->optimizer.beta2, 1) &&
           in_range(i, "eps", i->attr->optimizer.eps, INFINITY);
}

// Beside states that are rounded, a gradient may be, too.
static bool is_gradient(inference *i, int input) {
    brim_dtype dtype = i->input[input].dtype;
    if (dtype != BRIM_F32 && dtype != BRIM_BF16)
        return infer_refuse(i, BRIM_SHAPE, "the gradient is %s, f32 or bf16 is expected",
                            brim_dtype_name(dtype));
    return infer_same_shape(i, 0, input, "the parameter", "its gradient");
}

bool infer_adamw_q8(inference *i) {
    int variables = i->outputs, copy = variables > 5 ? 5 : -1;
    if (!infer_is(i, 0, BRIM_F32) || !is_quantised(i, 1, "the state m") ||
        !is_quantised(i, 3, "the state v") ||
        (copy > 0 && !is_update_tensor(i, copy, true, "its copy")) ||
        !is_gradient(i, variables))
        return false;
    for (int k = 0; k < variables; k++) infer_set(i, k, i->input[k].dtype, &i->input[k].shape);
    return has_factors(i, variables + 1) && has_adamw_constants(i);
}

bool infer_adamw(inference *i) {
    return is_update(i, 2) && has_adamw_constants(i);
}

bool infer_sgd(inference *i) {
    return is_update(i, 1);
}
