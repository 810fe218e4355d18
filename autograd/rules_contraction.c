// Derivatives of matrix products and reductions.
#include "autograd/rules.h"

static brim_value product(const rule_context *c, brim_value a, bool transpose_a, brim_value b,
                          bool transpose_b, brim_dtype dtype) {
    brim_attr attr = {.matmul = {transpose_a, transpose_b}};
    brim_value inputs[2] = {a, b};
    return graph_op_as(c->graph, OP_MATMUL, inputs, 2, &attr, dtype);
}

// Operands of one product have one dtype; the gradient of a product with an f32 result (logits,
// say) may have another than the operands. It takes theirs.
static brim_value like(brim_value x, brim_value other) {
    return brim_cast(x, brim_value_dtype(other));
}

// [.., M, N] -> [.. M, N]
static brim_value merge_rows(brim_value x) {
    return brim_reshape(x, -1, brim_dim(x, -1));
}

// True if b is one matrix that every matrix of a batch a [.., M, K] is multiplied by: then its
// gradient is one product over all rows, rather than a batch of products and a sum.
static bool is_shared(const shape *a, const shape *b) {
    for (int32_t i = 0; i < b->rank - 2; i++)
        if (b->dim[i] != 1) return false;
    for (int32_t i = 0; i < a->rank - 2; i++)
        if (a->dim[i] != 1) return true;
    return false;
}

// y = op(a) op(b): d op(a) = dy op(b)^T, d op(b) = op(a)^T dy; where an operand was transposed, so
// is its gradient.
static brim_value gradient_of_a(const rule_context *c, brim_value dy) {
    bool ta = c->node->attr.matmul.transpose_a, tb = c->node->attr.matmul.transpose_b;
    shape a = derive_value(c->in[0])->shape, y = derive_value(c->out[0])->shape;
    bool summed = y.rank != a.rank;
    for (int32_t i = 0; i < a.rank - 2 && !summed; i++) summed = a.dim[i] != y.dim[i];
    brim_dtype dtype = summed ? BRIM_F32 : c->dtype[0];
    brim_value da = ta ? product(c, c->in[1], tb, dy, true, dtype)
                       : product(c, dy, false, c->in[1], !tb, dtype);
    return derive_to_input(c, da, 0);
}

static brim_value gradient_of_b(const rule_context *c, brim_value dy) {
    bool ta = c->node->attr.matmul.transpose_a, tb = c->node->attr.matmul.transpose_b;
    shape a = derive_value(c->in[0])->shape, b = derive_value(c->in[1])->shape;
    shape y = derive_value(c->out[0])->shape;
    brim_value x = c->in[0];
    bool shared = !ta && is_shared(&a, &b);
    if (shared) {
        x = merge_rows(x);
        dy = merge_rows(dy);
    }
    bool summed = !shared && y.rank != b.rank;
    for (int32_t i = 0; i < b.rank - 2 && !summed && !shared; i++) summed = b.dim[i] != y.dim[i];
    brim_dtype dtype = summed ? BRIM_F32 : c->dtype[1];
    brim_value db = tb ? product(c, dy, true, x, ta, dtype) : product(c, x, !ta, dy, false, dtype);
    if (shared) return b.rank == 2 ? db : brim_reshape_dims(db, b.rank, b.dim);
    return derive_to_input(c, db, 1);
}

void derive_matmul(const rule_context *c, brim_value *dx) {
    brim_value dy = like(derive_dy(c), c->in[0]);
    if (c->wanted[0]) dx[0] = gradient_of_a(c, dy);
    if (c->wanted[1]) dx[1] = gradient_of_b(c, dy);
}

// A reduction's result or its gradient with the reduced axes put back as extents of 1.
static brim_value keep_axes(const rule_context *c, brim_value reduced) {
    shape s = derive_value(c->in[0])->shape;
    if (c->node->attr.reduce.keep) return reduced;
    for (int32_t i = 0; i < s.rank; i++)
        if (c->node->attr.reduce.axes >> i & 1) s.dim[i] = 1;
    return brim_reshape_dims(reduced, s.rank, s.dim);
}

void derive_sum(const rule_context *c, brim_value *dx) {
    shape s = derive_value(c->in[0])->shape;
    brim_value dy = brim_cast(derive_dy(c), c->dtype[0]);
    dx[0] = brim_broadcast_dims(keep_axes(c, dy), s.rank, s.dim);
}

// 2 x dy
void derive_sum_squares(const rule_context *c, brim_value *dx) {
    brim_value twice = brim_scale(derive_wide(keep_axes(c, derive_dy(c))), 2);
    dx[0] = brim_mul(derive_wide(c->in[0]), twice);
}

// dy over the number of elements that equal the maximum, for each of those.
void derive_max(const rule_context *c, brim_value *dx) {
    brim_value largest = brim_eq(c->in[0], keep_axes(c, c->out[0]));
    brim_attr attr = {.reduce = {c->node->attr.reduce.axes, true}};
    brim_value count = graph_op_as(c->graph, OP_SUM, &largest, 1, &attr, BRIM_F32);
    brim_value share = brim_div(derive_wide(keep_axes(c, derive_dy(c))), count);
    dx[0] = brim_mul(derive_wide(largest), share);
}
