// Constructors of contractions, reductions and ops on rows.
#include <stdint.h>
#include "graph/build.h"
#include "graph/shape.h"

// True for a [.., M, K] times one matrix [K, N]: then a's leading axes are but more rows.
static bool is_one_product(brim_value a, bool transpose_a, brim_value b, bool transpose_b) {
    const shape *x = &a.graph->value[a.id].shape, *y = &b.graph->value[b.id].shape;
    return !transpose_a && x->rank > 2 && y->rank == 2 &&
           x->dim[x->rank - 1] == y->dim[transpose_b];
}

brim_value brim_matmul_t(brim_value a, bool transpose_a, brim_value b, bool transpose_b) {
    brim_value operands[] = {a, b};
    brim_graph *g = graph_of("matmul", operands, 2);
    if (!g) return GRAPH_INVALID;
    brim_attr attr = {.matmul = {transpose_a, transpose_b}};
    if (!is_one_product(a, transpose_a, b, transpose_b))
        return graph_op(g, OP_MATMUL, operands, 2, &attr);
    // One product instead of a batch of them, here and in the derivatives.
    shape s = g->value[a.id].shape;
    operands[0] = brim_reshape(a, -1, s.dim[s.rank - 1]);
    brim_value product = graph_op(g, OP_MATMUL, operands, 2, &attr);
    s.dim[s.rank - 1] = brim_dim(product, 1);
    return brim_reshape_dims(product, s.rank, s.dim);
}

brim_value brim_matmul(brim_value a, brim_value b) {
    return brim_matmul_t(a, false, b, false);
}

// Reductions --------------------------------------------------------------------------------------

// The bit set of a list of axes; none listed means all. False with an error stuck.
static bool axis_set(const char *what, brim_value a, const int *axes, int count, uint32_t *set) {
    int rank = brim_rank(a);
    *set = count ? 0 : (1u << rank) - 1;
    if (count < 0 || (count && !axes)) {
        graph_refuse(a.graph, BRIM_ARGUMENT, what, &a, 1, "a list of %d axes was given", count);
        return false;
    }
    for (int i = 0; i < count; i++) {
        int axis = axes[i];
        if (!graph_axis(what, a, &axis)) return false;
        if (*set >> axis & 1) {
            graph_refuse(a.graph, BRIM_ARGUMENT, what, &a, 1, "axis %d is listed twice", axes[i]);
            return false;
        }
        *set |= 1u << axis;
    }
    return true;
}

static brim_value reduce(const char *what, op_id op, brim_value a, const int *axes, int count,
                         bool keep) {
    uint32_t set;
    if (!graph_of(what, &a, 1) || !axis_set(what, a, axes, count, &set)) return GRAPH_INVALID;
    return graph_op(a.graph, op, &a, 1, &(brim_attr){.reduce = {set, keep}});
}

brim_value brim_sum(brim_value a, const int *axes, int count, bool keep) {
    return reduce("sum", OP_SUM, a, axes, count, keep);
}

brim_value brim_max(brim_value a, const int *axes, int count, bool keep) {
    return reduce("max", OP_MAX, a, axes, count, keep);
}

brim_value brim_mean(brim_value a, const int *axes, int count, bool keep) {
    brim_value sum = reduce("mean", OP_SUM, a, axes, count, keep);
    if (!sum.graph) return sum;
    const graph_value *v = a.graph->value;
    double elements = (double)shape_elements(&v[a.id].shape),
           left = (double)shape_elements(&v[sum.id].shape);
    return brim_scale(sum, left / elements);
}

// Rows --------------------------------------------------------------------------------------------

// Rows are those of the last axis: another one changes places with it, and back.
static brim_value along_axis(const char *what, op_id op, brim_value a, int axis) {
    if (!graph_of(what, &a, 1) || !graph_axis(what, a, &axis)) return GRAPH_INVALID;
    int rank = brim_rank(a);
    int64_t exchange[BRIM_MAX_DIMS];
    for (int i = 0; i < rank; i++) exchange[i] = i;
    exchange[axis] = rank - 1;
    exchange[rank - 1] = axis;
    brim_value rows = brim_permute_axes(a, rank, exchange);
    rows = graph_op(a.graph, op, &rows, 1, NULL);
    return brim_permute_axes(rows, rank, exchange);
}

brim_value brim_softmax(brim_value a, int axis) {
    return along_axis("softmax", OP_SOFTMAX, a, axis);
}

brim_value brim_log_softmax(brim_value a, int axis) {
    return along_axis("log_softmax", OP_LOG_SOFTMAX, a, axis);
}

brim_value brim_layer_norm_with(brim_value x, brim_value gain, brim_value bias, double eps) {
    brim_value operands[] = {x, gain, bias};
    brim_graph *g = graph_of("layer_norm", operands, 3);
    brim_attr attr = {.scalar = {(float)eps}};
    return graph_op(g, OP_LAYER_NORM, operands, 3, &attr);
}

brim_value brim_rms_norm_with(brim_value x, brim_value gain, double eps) {
    brim_value operands[] = {x, gain};
    brim_graph *g = graph_of("rms_norm", operands, 2);
    brim_attr attr = {.scalar = {(float)eps}};
    return graph_op(g, OP_RMS_NORM, operands, 2, &attr);
}

// Losses ------------------------------------------------------------------------------------------

static const brim_loss no_loss = {{NULL, -1}, {NULL, -1}};

// A loss whose last operand are integer targets: the sum of the op's first output, and the number
// of targets that are not `ignore`.
static brim_loss loss_of_targets(const char *what, op_id op, const brim_value *operands, int count,
                                 const brim_attr *attr, int32_t ignore) {
    brim_graph *g = operands[0].graph;
    // The count compares targets with `ignore` in f32. Below 2^24 no other integer is rounded to
    // the same number.
    if (ignore <= -(1 << 24) || ignore >= 1 << 24) {
        graph_refuse(g, BRIM_ARGUMENT, what, operands, count,
                     "the target to ignore is %d, one below 2^24 is expected", (int)ignore);
        return no_loss;
    }
    brim_value losses = graph_op(g, op, operands, count, attr);
    brim_value counted = brim_ne(operands[count - 1], graph_constant(g, BRIM_I32, ignore));
    counted = graph_cast(counted, BRIM_F32);
    brim_loss loss; // one node after the other: C leaves the order within an initialiser open
    loss.sum = brim_sum(losses, NULL, 0, false);
    loss.count = brim_sum(counted, NULL, 0, false);
    return loss;
}

brim_loss brim_cross_entropy(brim_value logits, brim_value targets, int32_t ignore) {
    brim_value operands[] = {logits, targets};
    if (!graph_of("cross_entropy", operands, 2)) return no_loss;
    brim_attr attr = {.targets = {ignore}};
    return loss_of_targets("cross_entropy", OP_CROSS_ENTROPY, operands, 2, &attr, ignore);
}

// 64 MiB of f32 logits. With fewer classes in a chunk, adding its part to the gradient of x takes
// more time than its products save (see lower_linear_cross_entropy.c). Libraries like sizes that
// are multiples of their tiles.
enum { CHUNK_LOGITS = 1 << 24, LEAST_CLASSES = 2048, CLASS_MULTIPLE = 128 };

int64_t linear_cross_entropy_chunk(int64_t tokens, int64_t classes) {
    int64_t most = CHUNK_LOGITS / tokens / CLASS_MULTIPLE * CLASS_MULTIPLE;
    if (most < LEAST_CLASSES) most = LEAST_CLASSES;
    if (classes <= most) return classes;
    int64_t chunks = (classes + most - 1) / most, even = (classes + chunks - 1) / chunks;
    return (even + CLASS_MULTIPLE - 1) / CLASS_MULTIPLE * CLASS_MULTIPLE;
}

brim_loss brim_linear_cross_entropy(brim_value x, brim_value weight, brim_value targets,
                                    int32_t ignore) {
    static const char what[] = "linear_cross_entropy";
    brim_value operands[] = {x, weight, targets};
    brim_graph *g = graph_of(what, operands, 3);
    if (!g) return no_loss;
    const shape *s = &g->value[x.id].shape, *w = &g->value[weight.id].shape;
    int64_t classes = w->rank ? w->dim[0] : 1, tokens = 1;
    for (int i = 0; i + 1 < s->rank; i++) tokens *= s->dim[i];
    brim_attr attr = {.chunked_targets = {ignore, linear_cross_entropy_chunk(tokens, classes)}};
    // One chunk: stored, its logits need not be made again for the gradients.
    if (attr.chunked_targets.chunk == classes)
        return brim_cross_entropy(brim_matmul_t(x, false, weight, true), targets, ignore);
    return loss_of_targets(what, OP_LINEAR_CROSS_ENTROPY, operands, 3, &attr, ignore);
}

brim_loss brim_mse(brim_value prediction, brim_value target) {
    brim_value operands[] = {prediction, target};
    brim_graph *g = graph_of("mse", operands, 2);
    if (!g) return no_loss;
    const shape *s = &g->value[prediction.id].shape;
    if (!shape_equal(s, &g->value[target.id].shape)) {
        graph_refuse(g, BRIM_SHAPE, "mse", operands, 2, "one shape is expected");
        return no_loss;
    }
    double elements = (double)shape_elements(s);
    prediction = graph_cast(prediction, BRIM_F32);
    target = graph_cast(target, BRIM_F32);
    brim_loss loss;
    loss.sum = reduce("mse", OP_SUM_SQUARES, brim_sub(prediction, target), NULL, 0, false);
    loss.count = brim_constant(g, elements);
    return loss;
}
