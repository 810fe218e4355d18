#include "tests/random_graph_draws.h"

#include <math.h>
#include <string.h>
#include <brim/train.h>
#include "core/dtype.h"
#include "tests/sandbox.h"

enum { ROOM = 16 }; // steps that one draw may take

int64_t draw_below(drawer *d, int64_t n) {
    return sandbox_below(&d->random, n);
}
bool draw_one_in(drawer *d, int64_t n) {
    return draw_below(d, n) == 0;
}

brim_dtype draw_low(drawer *d) {
    if (d->kind->low != BRIM_F32) return d->kind->low;
    return draw_one_in(d, 2) ? BRIM_F16 : BRIM_BF16;
}

// Steps ------------------------------------------------------------------------------------------

recipe_step draw_step_of(recipe_kind kind, int a, int b, int c) {
    return (recipe_step){.kind = kind, .x = {a, b, c}};
}

// Appends a step whose value lies within [low, high].
int draw_push(drawer *d, recipe_step s, double low, double high) {
    int i = d->r->steps;
    d->r->step[i] = s;
    d->r->steps++;
    d->value[i] = recipe_make_step(d->r, i, d->g, d->value);
    if (failed(&d->err)) return 0;
    const graph_value *v = &d->g->value[d->value[i].id];
    bool view = s.kind == STEP_permute || s.kind == STEP_slice || s.kind == STEP_broadcast ||
                ((s.kind == STEP_reshape || s.kind == STEP_checkpoint) && d->of[s.x[0]].viewed);
    d->of[i] = (drawn){v->shape, v->dtype, low, high, view};
    return i;
}

double draw_size_of(const drawer *d, int x) {
    return fmax(fabs(d->of[x].low), fabs(d->of[x].high));
}

int draw_unary_step(drawer *d, recipe_kind kind, int x, double low, double high) {
    return draw_push(d, draw_step_of(kind, x, 0, 0), low, high);
}

int draw_squashed(drawer *d, int x) {
    return draw_size_of(d, x) <= DRAW_MOST ? x : draw_unary_step(d, STEP_tanh, x, -1, 1);
}

// For elementwise readers: where forms are few, dense.
int draw_dense(drawer *d, int x) {
    if (!d->kind->few_forms || !d->of[x].viewed) return x;
    return draw_unary_step(d, STEP_copy, x, d->of[x].low, d->of[x].high);
}

int draw_cast_to(drawer *d, int x, brim_dtype dtype) {
    if (d->of[x].dtype == dtype) return x;
    recipe_step s = draw_step_of(STEP_cast, draw_dense(d, x), 0, 0);
    s.n[0] = dtype;
    return draw_push(d, s, d->of[x].low, d->of[x].high);
}

int draw_shifted(drawer *d, int x, int eighths) {
    recipe_step s = draw_step_of(STEP_shift, x, 0, 0);
    s.n[0] = eighths;
    return draw_push(d, s, d->of[x].low + eighths / 8.0, d->of[x].high + eighths / 8.0);
}

// At least 1/8, or so.
int draw_positive(drawer *d, int x) {
    x = draw_dense(d, x);
    if (d->of[x].low >= 0.1) return x;
    if (draw_size_of(d, x) <= 2) return draw_unary_step(d, STEP_exp, x, 0.125, 8);
    return draw_shifted(d, draw_unary_step(d, STEP_sigmoid, x, 0, 1), 2);
}

// Leaves -----------------------------------------------------------------------------------------

static const struct {
    op_case_fill_kind fill;
    double low, high;
} fills[] = {{OP_CASE_FILL_UNIT, -1, 1},   {OP_CASE_FILL_UNIT, -1, 1},
             {OP_CASE_FILL_NORMAL, -4, 4}, {OP_CASE_FILL_POSITIVE, 0.25, 2},
             {OP_CASE_FILL_AWAY, -4, 4},   {OP_CASE_FILL_TIES, -1, 2}};
enum { FILLS = sizeof fills / sizeof *fills };

static recipe_step leaf_step(recipe_kind kind, brim_dtype dtype, int fill, const shape *s) {
    recipe_step leaf = {.kind = kind};
    leaf.n[LEAF_DTYPE] = dtype;
    leaf.n[LEAF_FILL] = fill;
    leaf.n[LEAF_RANK] = s->rank;
    for (int i = 0; i < s->rank; i++) leaf.n[LEAF_EXTENTS + i] = s->dim[i];
    return leaf;
}

int draw_float_leaf(drawer *d, brim_dtype dtype, const shape *s) {
    int which = (int)draw_below(d, FILLS);
    bool parameter = dtype == BRIM_F32 && draw_one_in(d, 2);
    recipe_step leaf =
        leaf_step(parameter ? STEP_parameter : STEP_input, dtype, (int)fills[which].fill, s);
    return draw_push(d, leaf, fills[which].low, fills[which].high);
}

// A weight, in the type that its readers want.
int draw_weight(drawer *d, brim_dtype dtype, const shape *s) {
    if (draw_one_in(d, 3)) return draw_float_leaf(d, dtype, s);
    recipe_step leaf = leaf_step(STEP_parameter, BRIM_F32, OP_CASE_FILL_UNIT, s);
    return draw_cast_to(d, draw_push(d, leaf, -1, 1), dtype);
}

int draw_integer_leaf(drawer *d, op_case_fill_kind fill, int64_t argument, const shape *s) {
    recipe_step leaf = leaf_step(STEP_input, BRIM_I32, (int)fill, s);
    leaf.n[LEAF_ARGUMENT] = argument;
    return draw_push(d, leaf, 0, (double)argument);
}

int64_t draw_extent(drawer *d, int64_t limit) {
    static const int64_t extents[] = {1,  1,  2,  3,  3,  4,  5,  5,  7,   8,   9,   15,  16,
                                      17, 17, 31, 32, 33, 63, 64, 65, 127, 128, 129, 255, 257};
    for (int tries = 0; tries < 8; tries++) {
        int64_t extent = extents[draw_below(d, sizeof extents / sizeof *extents)];
        if (extent <= limit) return extent;
    }
    return 1;
}

shape draw_shape(drawer *d, int least, int largest) {
    shape s = {.rank = least + (int)draw_below(d, largest - least + 1)};
    int64_t left = d->kind->most_elements;
    for (int i = s.rank - 1; i >= 0; i--) {
        s.dim[i] = draw_extent(d, left);
        left /= s.dim[i];
    }
    return s;
}

// Operands ---------------------------------------------------------------------------------------

// A float value of that rank or more, recent ones rather than others, or a new leaf.
int draw_any_float(drawer *d, int least) {
    int steps = d->r->steps;
    for (int tries = 0; steps && tries < 12; tries++) {
        int64_t window = draw_below(d, 2) && steps > 4 ? 4 : steps;
        int x = steps - 1 - (int)draw_below(d, window);
        if (!dtype_is_float(d->of[x].dtype) || d->of[x].shape.rank < least) continue;
        return draw_squashed(d, x);
    }
    shape s = draw_shape(d, least > 1 ? least : 1, d->kind->few_forms ? 3 : 4);
    return draw_float_leaf(d, d->dtype, &s);
}

int64_t draw_elements(const drawer *d, int x) {
    return shape_elements(&d->of[x].shape);
}

bool draw_fits(const drawer *d, double count) {
    return count <= (double)d->kind->most_elements;
}

// Graphs -----------------------------------------------------------------------------------------

static const struct {
    void (*draw)(drawer *);
    int weight;
} draws[] = {{draw_unary, 10},    {draw_with_constants, 4},
             {draw_binary, 10},   {draw_where, 2},
             {draw_cast, 3},      {draw_integers, 2},
             {draw_reshape, 4},   {draw_permute, 4},
             {draw_broadcast, 3}, {draw_slice, 4},
             {draw_concat, 4},    {draw_checkpoint, 1},
             {draw_matmul, 5},    {draw_gram, 2},
             {draw_reduction, 6}, {draw_softmax, 3},
             {draw_norm, 4},      {draw_cross_entropy, 2},
             {draw_mse, 1},       {draw_linear_cross_entropy, 2},
             {draw_gather, 3},    {draw_attention, 3},
             {draw_dropout, 2}};

static void draw_one(drawer *d) {
    int total = 0, at = 0;
    for (size_t i = 0; i < sizeof draws / sizeof *draws; i++) total += draws[i].weight;
    int64_t ticket = draw_below(d, total);
    while (ticket >= draws[at].weight) ticket -= draws[at++].weight;
    draws[at].draw(d);
}

// A table that is large enough for states as blocks.
static void draw_large_table(drawer *d) {
    shape table = {2, {64, 65}}, ids = {1, {3}};
    recipe_step leaf = leaf_step(STEP_parameter, BRIM_F32, OP_CASE_FILL_UNIT, &table);
    int w = draw_cast_to(d, draw_push(d, leaf, -1, 1), d->dtype);
    draw_push(d,
              draw_step_of(STEP_gather, w, draw_integer_leaf(d, OP_CASE_FILL_BELOW, 64, &ids), 0),
              -1, 1);
}

static void draw_options(drawer *d) {
    recipe *r = d->r;
    r->training = draw_one_in(d, 2);
    r->fused = d->kind->fused;
    r->recompute = draw_one_in(d, 2) ? 0 : 1 + draw_below(d, 1000);
    if (!r->training) return;
    static const brim_precision precisions[] = {[BRIM_F32] = BRIM_PRECISION_F32,
                                                [BRIM_F16] = BRIM_PRECISION_F16,
                                                [BRIM_BF16] = BRIM_PRECISION_BF16};
    r->precision = draw_one_in(d, 2) ? precisions[draw_low(d)] : BRIM_PRECISION_F32;
    r->copies = r->precision && !draw_one_in(d, 3);
    r->sgd = draw_one_in(d, 3);
    r->q8 = !r->sgd && draw_one_in(d, 3);
    r->clip = draw_one_in(d, 2);
    r->more_micro_batches = draw_one_in(d, 3) ? 1 + draw_below(d, 2) : 0;
}

void random_graph(recipe *out, uint64_t seed, const random_graph_kind *kind) {
    memset(out, 0, sizeof *out);
    drawer d = {.kind = kind, .r = out, .random = seed};
    out->seed = (int64_t)(seed % 1000000);
    draw_options(&d);
    d.dtype = out->precision || draw_below(&d, 5) < 3 ? BRIM_F32 : draw_low(&d);
    d.g = brim_graph_create(&d.err);
    if (!d.g) return;
    if (out->q8) draw_large_table(&d);
    int64_t draws_left = 1 + draw_below(&d, kind->most_steps);
    while (draws_left-- > 0 && out->steps + ROOM < RECIPE_STEPS && !failed(&d.err)) draw_one(&d);
    if (out->steps == 0 && !failed(&d.err)) draw_any_float(&d, 1);
    brim_graph_free(d.g);
}
