// Elementwise ops and views.
#include "tests/random_graph_draws.h"

#include <math.h>
#include <string.h>
#include "core/dtype.h"

// Operands ----------------------------------------------------------------------------------------

// A shape that broadcasts to s. In few forms: itself, its last axis, a scalar.
static shape draw_smaller(drawer *d, shape s) {
    int64_t choice = draw_below(d, 6);
    if (choice < 3 || !s.rank) return s;
    shape r = {0};
    if (d->kind->few_forms) {
        if (choice < 5) r = (shape){1, {s.dim[s.rank - 1]}};
        return r;
    }
    int dropped = draw_one_in(d, 2) ? (int)draw_below(d, s.rank + 1) : 0;
    r.rank = s.rank - dropped;
    for (int i = 0; i < r.rank; i++) r.dim[i] = draw_one_in(d, 3) ? 1 : s.dim[i + dropped];
    return r;
}

// Another operand for an elementwise op with x: one that is there, or a leaf. `alike`: of x's shape
// where forms are few.
static int partner(drawer *d, int x, bool alike) {
    for (int tries = 0; tries < 6 && !draw_one_in(d, 3); tries++) {
        int y = (int)draw_below(d, d->r->steps);
        shape s;
        bool same = shape_equal(&d->of[x].shape, &d->of[y].shape);
        if (!dtype_is_float(d->of[y].dtype) || (d->kind->few_forms && !same)) continue;
        if (!shape_broadcast(&d->of[x].shape, &d->of[y].shape, &s) ||
            !draw_fits(d, (double)shape_elements(&s)))
            continue;
        return draw_dense(d, draw_cast_to(d, draw_squashed(d, y), d->of[x].dtype));
    }
    shape s = d->of[x].shape;
    if (!alike || !d->kind->few_forms) s = draw_smaller(d, s);
    return draw_float_leaf(d, d->of[x].dtype, &s);
}

// Elementwise ------------------------------------------------------------------------------------

void draw_unary(drawer *d) {
    static const recipe_kind kinds[] = {STEP_neg,  STEP_abs,     STEP_exp,      STEP_log,
                                        STEP_sqrt, STEP_rsqrt,   STEP_square,   STEP_tanh,
                                        STEP_relu, STEP_gelu,    STEP_gelu_erf, STEP_silu,
                                        STEP_copy, STEP_sigmoid, STEP_is_finite};
    recipe_kind kind = kinds[draw_below(d, sizeof kinds / sizeof *kinds)];
    int x = draw_dense(d, draw_any_float(d, 0));
    bool root = kind == STEP_log || kind == STEP_sqrt || kind == STEP_rsqrt;
    if (root) x = draw_positive(d, x);
    if (kind == STEP_exp && draw_size_of(d, x) > 4) x = draw_unary_step(d, STEP_tanh, x, -1, 1);
    double low = d->of[x].low, size = draw_size_of(d, x);
    switch (kind) {
    case STEP_exp:
        draw_unary_step(d, kind, x, exp(-size), exp(size));
        break;
    case STEP_square:
        draw_unary_step(d, kind, x, 0, size * size);
        break;
    case STEP_log:
        draw_unary_step(d, kind, x, log(low), log(size));
        break;
    case STEP_sqrt:
        draw_unary_step(d, kind, x, sqrt(low), sqrt(size));
        break;
    case STEP_rsqrt:
        draw_unary_step(d, kind, x, 1 / sqrt(size), 1 / sqrt(low));
        break;
    case STEP_is_finite:
    case STEP_sigmoid:
    case STEP_tanh:
        draw_unary_step(d, kind, x, kind == STEP_tanh ? -1 : 0, 1);
        break;
    default:
        draw_unary_step(d, kind, x, kind == STEP_abs || kind == STEP_relu ? 0 : -size, size);
        break;
    }
}

void draw_with_constants(drawer *d) {
    static const recipe_kind kinds[] = {STEP_pow, STEP_clamp, STEP_scale, STEP_shift};
    static const int powers[] = {16, 24, 4, -8, 12, -12, 8, 0};
    int which = (int)draw_below(d, 4), x = draw_dense(d, draw_any_float(d, 0));
    recipe_step s = draw_step_of(kinds[which], x, 0, 0);
    double low = -draw_size_of(d, x), high = -low;
    if (s.kind == STEP_pow) {
        s.n[0] = powers[draw_below(d, d->kind->few_forms ? 3 : 8)];
        if (s.n[0] % 8 || s.n[0] < 0) s.x[0] = draw_positive(d, x);
        high = pow(fmax(draw_size_of(d, s.x[0]), 10), fabs((double)s.n[0] / 8));
        low = -high;
    } else if (s.kind == STEP_clamp) {
        s.n[0] = d->kind->few_forms ? -4 : -draw_below(d, 9);
        s.n[1] = d->kind->few_forms ? 6 : draw_below(d, 12);
        low = (double)s.n[0] / 8, high = (double)s.n[1] / 8;
    } else {
        s.n[0] = d->kind->few_forms ? 4 : draw_below(d, 40) - 20;
        double n = fabs((double)s.n[0] / 8);
        high = s.kind == STEP_scale ? high * n : high + n;
        low = -high;
    }
    draw_push(d, s, low, high);
}

void draw_binary(drawer *d) {
    static const recipe_kind kinds[] = {
        STEP_add, STEP_sub, STEP_mul, STEP_div, STEP_maximum, STEP_minimum, STEP_lt,  STEP_le,
        STEP_gt,  STEP_ge,  STEP_eq,  STEP_ne,  STEP_add,     STEP_mul,     STEP_add, STEP_mul};
    recipe_kind kind = kinds[draw_below(d, sizeof kinds / sizeof *kinds)];
    int x = draw_dense(d, draw_any_float(d, 0)), y = partner(d, x, kind >= STEP_lt);
    if (kind == STEP_div) y = draw_positive(d, y);
    double a = draw_size_of(d, x), b = draw_size_of(d, y);
    double size = kind == STEP_mul   ? a * b
                  : kind == STEP_div ? a * 10
                  : kind >= STEP_lt  ? 1
                                     : a + b;
    if (draw_one_in(d, 2) && kind != STEP_div) {
        int other = x;
        x = y, y = other;
    }
    draw_push(d, draw_step_of(kind, x, y, 0), kind >= STEP_lt ? 0 : -size, size);
}

void draw_where(drawer *d) {
    int a = draw_dense(d, draw_any_float(d, 0)), b = partner(d, a, true), c = partner(d, a, true);
    shape s;
    if (!shape_broadcast(&d->of[a].shape, &d->of[b].shape, &s) ||
        !shape_broadcast(&s, &d->of[c].shape, &s) || !draw_fits(d, (double)shape_elements(&s)))
        return;
    double size = fmax(draw_size_of(d, a), draw_size_of(d, b));
    int condition = draw_one_in(d, 2) ? draw_push(d, draw_step_of(STEP_gt, a, c, 0), 0, 1) : c;
    draw_push(d, draw_step_of(STEP_where, condition, a, b), -size, size);
}

void draw_cast(drawer *d) {
    int x = draw_any_float(d, 0);
    brim_dtype to[] = {BRIM_F32, draw_low(d), draw_low(d), d->dtype};
    draw_cast_to(d, x, to[draw_below(d, 4)]);
}

// Integers: made, or from floats; computed with; and back.
void draw_integers(drawer *d) {
    static const recipe_kind kinds[] = {STEP_add,     STEP_lt, STEP_abs, STEP_sub,    STEP_mul,
                                        STEP_maximum, STEP_ne, STEP_neg, STEP_minimum};
    int x;
    if (draw_one_in(d, 3)) {
        x = draw_cast_to(d, draw_any_float(d, 1), BRIM_I32);
    } else {
        shape s = draw_shape(d, 1, 3);
        x = draw_integer_leaf(d, OP_CASE_FILL_BELOW, 50, &s);
    }
    shape s = draw_smaller(d, d->of[x].shape);
    int y = draw_integer_leaf(d, OP_CASE_FILL_BELOW, 20, &s);
    int z = draw_push(d, draw_step_of(kinds[draw_below(d, d->kind->few_forms ? 3 : 9)], x, y, 0),
                      -1000, 1000);
    if (draw_one_in(d, 3)) z = draw_push(d, draw_step_of(STEP_where, y, z, x), -1000, 1000);
    draw_unary_step(d, STEP_tanh, draw_cast_to(d, z, BRIM_F32), -1, 1);
}

// Views ------------------------------------------------------------------------------------------

void draw_reshape(drawer *d) {
    int x = draw_any_float(d, 0);
    int64_t left = draw_elements(d, x);
    recipe_step s = draw_step_of(STEP_reshape, x, 0, 0);
    int rank = 0;
    while (left > 1 && rank < 3) {
        int64_t part = 1 + draw_below(d, left);
        while (left % part) part--;
        if (part == 1 && !draw_one_in(d, 4)) break;
        s.n[1 + rank++] = part;
        left /= part;
    }
    s.n[1 + rank++] = -1;
    s.n[0] = rank;
    draw_push(d, s, d->of[x].low, d->of[x].high);
}

void draw_permute(drawer *d) {
    int x = draw_any_float(d, 2), rank = d->of[x].shape.rank;
    recipe_step s = draw_step_of(STEP_permute, x, 0, 0);
    s.n[0] = rank;
    for (int i = 0; i < rank; i++) s.n[1 + i] = i;
    for (int i = rank - 1; i > 0; i--) {
        int64_t j = draw_below(d, i + 1), kept = s.n[1 + i];
        s.n[1 + i] = s.n[1 + j];
        s.n[1 + j] = kept;
    }
    draw_push(d, s, d->of[x].low, d->of[x].high);
}

void draw_broadcast(drawer *d) {
    int x = draw_any_float(d, 0);
    shape s = d->of[x].shape;
    for (int i = 0; i < s.rank; i++)
        if (s.dim[i] == 1 && !draw_one_in(d, 3)) s.dim[i] = draw_extent(d, 9);
    if (s.rank < 4 && !draw_one_in(d, 3)) {
        memmove(s.dim + 1, s.dim, (size_t)s.rank * sizeof *s.dim);
        s.dim[0] = draw_extent(d, 9);
        s.rank++;
    }
    if (!draw_fits(d, (double)shape_elements(&s))) return;
    recipe_step step = draw_step_of(STEP_broadcast, x, 0, 0);
    step.n[0] = s.rank;
    for (int i = 0; i < s.rank; i++) step.n[1 + i] = s.dim[i];
    draw_push(d, step, d->of[x].low, d->of[x].high);
}

int draw_slice_of(drawer *d, int x, int axis, int64_t start, int64_t extent) {
    recipe_step s = draw_step_of(STEP_slice, x, 0, 0);
    s.n[0] = axis, s.n[1] = start, s.n[2] = extent;
    return draw_push(d, s, d->of[x].low, d->of[x].high);
}

void draw_slice(drawer *d) {
    int x = draw_any_float(d, 1), axis = (int)draw_below(d, d->of[x].shape.rank);
    int64_t dim = d->of[x].shape.dim[axis], extent = 1 + draw_below(d, dim);
    draw_slice_of(d, x, axis, draw_below(d, dim - extent + 1), extent);
}

// Of a value, parts of it and others like it.
void draw_concat(drawer *d) {
    int x = draw_any_float(d, 1), axis = (int)draw_below(d, d->of[x].shape.rank),
        parts = 2 + draw_one_in(d, 3);
    if (!draw_fits(d, 3.0 * (double)draw_elements(d, x))) return;
    recipe_step s = draw_step_of(parts == 2 ? STEP_concat : STEP_concat_three, x, x, x);
    for (int i = 1; i < parts; i++) {
        shape like = d->of[x].shape;
        int64_t choice = draw_below(d, 3), dim = like.dim[axis];
        like.dim[axis] = draw_extent(d, dim);
        if (choice == 0) s.x[i] = draw_float_leaf(d, d->of[x].dtype, &like);
        if (choice == 1) s.x[i] = draw_slice_of(d, x, axis, draw_below(d, dim), 1);
    }
    s.n[0] = axis;
    draw_push(d, s, -DRAW_MOST, DRAW_MOST);
}

void draw_checkpoint(drawer *d) {
    int x = draw_any_float(d, 1);
    draw_unary_step(d, STEP_checkpoint, x, d->of[x].low, d->of[x].high);
}
