// Contractions, reductions, ops on rows, losses and sequences.
#include "tests/random_graph_draws.h"

#include <math.h>
#include <string.h>
#include "core/dtype.h"

// Contractions, reductions, rows -----------------------------------------------------------------

void draw_matmul(drawer *d) {
    int x = draw_any_float(d, 2);
    shape a = d->of[x].shape;
    recipe_step s = draw_step_of(STEP_matmul, x, 0, 0);
    s.n[0] = draw_one_in(d, 3), s.n[1] = draw_one_in(d, 2);
    int64_t k = a.dim[a.rank - (s.n[0] ? 2 : 1)], m = draw_elements(d, x) / k;
    int64_t n = draw_extent(d, d->kind->most_elements / (m > k ? m : k));
    shape b = {2, {s.n[1] ? n : k, s.n[1] ? k : n}};
    if (a.rank == 3 && draw_one_in(d, 3))
        b = (shape){3, {draw_one_in(d, 2) ? 1 : a.dim[0], b.dim[0], b.dim[1]}};
    if (!draw_fits(d, (double)shape_elements(&b))) return;
    s.x[1] = draw_weight(d, d->of[x].dtype, &b);
    double size = (double)k * draw_size_of(d, x) * draw_size_of(d, s.x[1]);
    draw_push(d, s, -size, size);
}

// A value by its own transpose, or with itself as both sides.
void draw_gram(drawer *d) {
    int x = draw_any_float(d, 2);
    shape a = d->of[x].shape;
    recipe_step s = draw_step_of(STEP_matmul, x, x, 0);
    s.n[0] = draw_one_in(d, 2), s.n[1] = !s.n[0];
    int64_t side = a.dim[a.rank - (s.n[0] ? 1 : 2)], k = a.dim[a.rank - (s.n[0] ? 2 : 1)];
    if (!draw_fits(d, (double)(draw_elements(d, x) / k * side))) return;
    double size = draw_size_of(d, x);
    draw_push(d, s, -(double)k * size * size, (double)k * size * size);
}

void draw_reduction(drawer *d) {
    // A mean has the number of elements in its kernel.
    static const recipe_kind kinds[] = {STEP_sum, STEP_sum_squares, STEP_max, STEP_mean};
    int x = draw_any_float(d, 1), rank = d->of[x].shape.rank;
    recipe_step s = draw_step_of(kinds[draw_below(d, d->kind->few_forms ? 3 : 4)], x, 0, 0);
    bool mean = s.kind == STEP_mean;
    s.n[0] = mean ? draw_below(d, rank) : 1 + draw_below(d, (1 << rank) - 1);
    s.n[1] = draw_one_in(d, 2);
    double count = (double)draw_elements(d, x), size = draw_size_of(d, x);
    if (s.kind == STEP_sum) size *= count;
    if (s.kind == STEP_sum_squares) size *= count * size;
    draw_push(d, s, -size, size);
}

void draw_softmax(drawer *d) {
    int x = draw_any_float(d, 1);
    recipe_step s = draw_step_of(draw_one_in(d, 2) ? STEP_softmax : STEP_log_softmax, x, 0, 0);
    s.n[0] = draw_one_in(d, 2) ? -1 : draw_below(d, d->of[x].shape.rank);
    draw_push(d, s, s.kind == STEP_softmax ? 0 : -2 * DRAW_MOST - 6,
              s.kind == STEP_softmax ? 1 : 0);
}

void draw_norm(drawer *d) {
    int x = draw_any_float(d, 1);
    int64_t width = d->of[x].shape.dim[d->of[x].shape.rank - 1];
    shape s = {1, {width}};
    int gain = draw_float_leaf(d, BRIM_F32, &s), bias = draw_float_leaf(d, BRIM_F32, &s);
    bool layer = draw_one_in(d, 2);
    // The largest that one element of a row can be, in standard deviations, is the root of the
    // width.
    draw_push(d, draw_step_of(layer ? STEP_layer_norm : STEP_rms_norm, x, gain, layer ? bias : 0),
              -4 * sqrt((double)width) - 4, 4 * sqrt((double)width) + 4);
}

// Losses -----------------------------------------------------------------------------------------

static shape rows_of(const drawer *d, int x) {
    shape s = d->of[x].shape;
    s.rank--;
    return s;
}

void draw_cross_entropy(drawer *d) {
    int x = draw_any_float(d, 1);
    shape rows = rows_of(d, x);
    int64_t classes = d->of[x].shape.dim[rows.rank];
    int targets = draw_integer_leaf(d, OP_CASE_FILL_TARGETS, classes, &rows);
    draw_push(d, draw_step_of(STEP_cross_entropy, x, targets, 0), 0, 1e6);
}

void draw_linear_cross_entropy(drawer *d) {
    int x = draw_any_float(d, 2);
    shape rows = rows_of(d, x);
    int64_t width = d->of[x].shape.dim[rows.rank], classes = draw_extent(d, 65);
    shape s = {2, {classes, width}};
    if (!draw_fits(d, (double)(classes * width))) return;
    int w = draw_weight(d, d->of[x].dtype, &s);
    int targets = draw_integer_leaf(d, OP_CASE_FILL_TARGETS, classes, &rows);
    recipe_step step = draw_step_of(STEP_linear_cross_entropy, x, w, targets);
    step.n[0] = 1 + draw_below(d, classes + 2);
    draw_push(d, step, 0, 1e6);
}

void draw_mse(drawer *d) {
    if (d->kind->few_forms) return; // the number of elements is a constant in a kernel
    int x = draw_dense(d, draw_any_float(d, 0));
    shape s = d->of[x].shape;
    draw_push(d, draw_step_of(STEP_mse, x, draw_float_leaf(d, d->of[x].dtype, &s), 0), 0, 1e6);
}

// Sequences --------------------------------------------------------------------------------------

void draw_gather(drawer *d) {
    shape table = draw_shape(d, 2, 2), ids = draw_shape(d, 0, 2);
    if (!draw_fits(d, (double)(shape_elements(&ids) * table.dim[1]))) return;
    int w = draw_weight(d, d->dtype, &table);
    int which = draw_integer_leaf(d, OP_CASE_FILL_BELOW, table.dim[0], &ids);
    draw_push(d, draw_step_of(STEP_gather, w, which, 0), d->of[w].low, d->of[w].high);
}

static int rotary(drawer *d, int x) {
    shape tokens = {2, {d->of[x].shape.dim[0], d->of[x].shape.dim[1]}};
    double size = 2 * draw_size_of(d, x);
    if (draw_one_in(d, 2)) return draw_unary_step(d, STEP_rotary, x, -size, size);
    recipe_step s = draw_step_of(STEP_rotary_positions, x, 0, 0);
    s.x[1] = draw_integer_leaf(d, OP_CASE_FILL_BELOW, 30, &tokens);
    s.n[0] = draw_one_in(d, 2);
    return draw_push(d, s, -size, size);
}

static int reshaped(drawer *d, int x, int rank, const int64_t *dims) {
    recipe_step s = draw_step_of(STEP_reshape, x, 0, 0);
    s.n[0] = rank;
    memcpy(s.n + 1, dims, (size_t)rank * sizeof *dims);
    return draw_push(d, s, d->of[x].low, d->of[x].high);
}

// q, k and v from one packed projection, or as leaves with groups and other lengths.
static void attention_inputs(drawer *d, int *q, int *k, int *v) {
    int64_t batch = 1 + draw_below(d, 3), length = draw_extent(d, 33), heads = 1 + draw_below(d, 3);
    static const int64_t sizes[] = {4, 2, 8, 16, 3, 5, 17, 32};
    int64_t size = sizes[draw_below(d, d->kind->few_forms ? 1 : 8)];
    int64_t all = batch * length * heads * size;
    if (3 * all > d->kind->most_elements) length = 1 + draw_below(d, 5), batch = 1;
    if (draw_one_in(d, 2)) {
        shape s = {3, {batch, length, 3 * heads * size}};
        int packed = draw_float_leaf(d, d->dtype, &s), *to[] = {q, k, v};
        for (int i = 0; i < 3; i++) {
            int part = draw_slice_of(d, packed, 2, i * heads * size, heads * size);
            *to[i] = reshaped(d, part, 4, (int64_t[]){batch, -1, heads, size});
        }
        return;
    }
    int64_t keys = draw_one_in(d, 2) ? length : length + draw_below(d, 5);
    shape of_q = {4, {batch, length, draw_one_in(d, 2) ? heads : 2 * heads, size}};
    shape of_k = {4, {batch, keys, heads, size}};
    *q = draw_float_leaf(d, d->dtype, &of_q);
    *k = draw_float_leaf(d, d->dtype, &of_k);
    *v = draw_float_leaf(d, d->dtype, &of_k);
}

void draw_attention(drawer *d) {
    int q, k, v;
    attention_inputs(d, &q, &k, &v);
    const int64_t *dims = d->of[q].shape.dim;
    bool turned = draw_one_in(d, 2) && dims[3] % 2 == 0, selfish = dims[1] == d->of[k].shape.dim[1];
    if (turned) q = rotary(d, q), k = rotary(d, k);
    recipe_step s = draw_step_of(STEP_attention, q, k, v);
    s.n[0] = draw_one_in(d, 2);
    s.n[1] = draw_below(d, 3) * 4;
    if (selfish && draw_one_in(d, 2)) {
        shape tokens = {2, {dims[0], dims[1]}};
        s.kind = STEP_attention_segments;
        s.x[3] = draw_integer_leaf(d, OP_CASE_FILL_SEGMENTS, 0, &tokens);
    }
    double size = draw_size_of(d, v);
    int o = draw_push(d, s, -size, size);
    if (draw_one_in(d, 2)) reshaped(d, o, 3, (int64_t[]){dims[0], -1, dims[2] * dims[3]});
}

void draw_dropout(drawer *d) {
    int x = draw_any_float(d, 0);
    recipe_step s = draw_step_of(STEP_dropout, x, 0, 0);
    s.n[0] = 1 + draw_below(d, 5);
    draw_push(d, s, -4 * draw_size_of(d, x), 4 * draw_size_of(d, x));
}
