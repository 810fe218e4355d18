// Views, matrix products and reductions.
#include "tests/oracle/oracle.h"

#include <math.h>

void oracle_permute(const oracle_context *c) {
    const oracle_tensor *x = c->in[0];
    for (int64_t i = 0; i < c->out->count; i++) {
        int64_t at[BRIM_MAX_DIMS], from[BRIM_MAX_DIMS];
        oracle_split(&c->out->shape, i, at);
        for (int32_t k = 0; k < x->shape.rank; k++) from[c->node->attr.axes[k]] = at[k];
        c->out->data[i] = x->data[oracle_join(&x->shape, from)];
    }
}

void oracle_slice(const oracle_context *c) {
    const oracle_tensor *x = c->in[0];
    for (int64_t i = 0; i < c->out->count; i++) {
        int64_t at[BRIM_MAX_DIMS];
        oracle_split(&c->out->shape, i, at);
        for (int32_t k = 0; k < x->shape.rank; k++) at[k] += c->node->attr.start[k];
        c->out->data[i] = x->data[oracle_join(&x->shape, at)];
    }
}

void oracle_pad(const oracle_context *c) {
    const oracle_tensor *x = c->in[0];
    for (int64_t i = 0; i < c->out->count; i++) c->out->data[i] = 0;
    for (int64_t i = 0; i < x->count; i++) {
        int64_t at[BRIM_MAX_DIMS];
        oracle_split(&x->shape, i, at);
        for (int32_t k = 0; k < x->shape.rank; k++) at[k] += c->node->attr.start[k];
        c->out->data[oracle_join(&c->out->shape, at)] = x->data[i];
    }
}

void oracle_broadcast(const oracle_context *c) {
    for (int64_t i = 0; i < c->out->count; i++) {
        int64_t at[BRIM_MAX_DIMS];
        oracle_split(&c->out->shape, i, at);
        c->out->data[i] =
            c->in[0]->data[oracle_broadcast_index(&c->in[0]->shape, c->out->shape.rank, at)];
    }
}

void oracle_concat(const oracle_context *c) {
    int64_t start = 0;
    int32_t axis = c->node->attr.axis;
    for (int32_t k = 0; k < c->node->inputs; k++) {
        const oracle_tensor *x = &c->oracle->value[c->node->input[k]];
        for (int64_t i = 0; i < x->count; i++) {
            int64_t at[BRIM_MAX_DIMS];
            oracle_split(&x->shape, i, at);
            at[axis] += start;
            c->out->data[oracle_join(&c->out->shape, at)] = x->data[i];
        }
        start += x->shape.dim[axis];
    }
}

// Where matrix number `at` (an index an axis of the result's leading axes) of a batch starts.
static int64_t matrix_start(const oracle_tensor *x, int32_t rank, const int64_t *at) {
    int64_t padded[BRIM_MAX_DIMS] = {0};
    for (int32_t i = 0; i < rank - 2; i++) padded[i] = at[i];
    padded[rank - 2] = padded[rank - 1] = 0;
    return oracle_broadcast_index(&x->shape, rank, padded);
}

void oracle_matmul(const oracle_context *c) {
    const oracle_tensor *a = c->in[0], *b = c->in[1];
    oracle_tensor *y = c->out;
    bool ta = c->node->attr.matmul.transpose_a, tb = c->node->attr.matmul.transpose_b;
    int32_t rank = y->shape.rank;
    int64_t m = y->shape.dim[rank - 2], n = y->shape.dim[rank - 1];
    int64_t columns_a = a->shape.dim[a->shape.rank - 1],
            columns_b = b->shape.dim[b->shape.rank - 1];
    int64_t depth = ta ? a->shape.dim[a->shape.rank - 2] : columns_a;
    for (int64_t batch = 0; batch < y->count / (m * n); batch++) {
        int64_t at[BRIM_MAX_DIMS];
        oracle_split(&y->shape, batch * m * n, at);
        const double *pa = a->data + matrix_start(a, rank, at),
                     *pb = b->data + matrix_start(b, rank, at);
        for (int64_t i = 0; i < m; i++) {
            for (int64_t j = 0; j < n; j++) {
                double sum = 0, size = 0;
                for (int64_t k = 0; k < depth; k++) {
                    double term = (ta ? pa[k * columns_a + i] : pa[i * columns_a + k]) *
                                  (tb ? pb[j * columns_b + k] : pb[k * columns_b + j]);
                    sum += term;
                    size += fabs(term);
                }
                y->data[(batch * m + i) * n + j] = sum;
                y->magnitude[(batch * m + i) * n + j] = size;
            }
        }
    }
}

// The element of the result that element i of the input is reduced into.
static int64_t reduced_index(const oracle_context *c, int64_t i) {
    const shape *from = &c->in[0]->shape;
    int64_t at[BRIM_MAX_DIMS], index = 0;
    oracle_split(from, i, at);
    for (int32_t k = 0; k < from->rank; k++) {
        bool reduced = c->node->attr.reduce.axes >> k & 1;
        if (!reduced) index = index * from->dim[k] + at[k];
    }
    return index;
}

static void sum_of(const oracle_context *c, bool squares) {
    for (int64_t i = 0; i < c->out->count; i++) c->out->data[i] = 0;
    for (int64_t i = 0; i < c->in[0]->count; i++) {
        int64_t to = reduced_index(c, i);
        double x = c->in[0]->data[i];
        if (squares) x *= x;
        c->out->data[to] += x;
        c->out->magnitude[to] += fabs(x);
    }
}
void oracle_sum(const oracle_context *c) {
    sum_of(c, false);
}
void oracle_sum_squares(const oracle_context *c) {
    sum_of(c, true);
}

void oracle_max(const oracle_context *c) {
    for (int64_t i = 0; i < c->out->count; i++) c->out->data[i] = -INFINITY;
    for (int64_t i = 0; i < c->in[0]->count; i++) {
        double *largest = &c->out->data[reduced_index(c, i)], x = c->in[0]->data[i];
        if (x > *largest || isnan(x)) *largest = x; // nothing is larger than a NaN
    }
}
