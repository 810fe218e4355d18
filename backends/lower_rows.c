// Rules for ops on rows of the last axis. Operands are dense.
#include "backends/lower_rules.h"

#include "backends/lower_split.h"

enum { MAX_ROW_OPERANDS = 6 };

static const char *name_of(const operand *x) {
    return brim_dtype_name(x->dtype);
}

// A launch that goes through [rows, length]: `buffers` as the kernel's first arguments, then
// `constant`, then the split. The last argument of every kernel here is (rows, length, rows for
// each group).
typedef struct row_launch {
    int64_t rows, length;
    launch_argument argument[12];
    int arguments;
    const operand *vectors[MAX_ROW_OPERANDS]; // operands that are read or written in whole vectors
    int vector_count;
} row_launch;

static row_launch rows_of(const operand *x) {
    return (row_launch){.rows = leading_elements(&x->shape), .length = last_extent(&x->shape)};
}

static void add(row_launch *r, launch_argument argument) {
    r->argument[r->arguments++] = argument;
}

static void add_vectors(row_launch *r, const operand *x, bool writes) {
    r->vectors[r->vector_count++] = x;
    add(r, writes ? arg_write(x) : arg_read(x));
}

static int aligned(const lowering *l, const row_launch *r) {
    return vectors_aligned(l->traits, r->vectors, r->vector_count, r->length);
}

static void launch_rows(lowering *l, row_launch *r, int kernel, const row_split *split) {
    add(r, arg_i64(r->rows));
    add(r, arg_i32(r->length));
    add(r, arg_i32(split->per));
    lower_launch(l, kernel, (const int64_t[3]){split->groups, 1, 1}, r->argument, r->arguments);
}

// ---- softmax ------------------------------------------------------------------------------------

static void softmax(lowering *l, int logarithm) {
    operand x = lower_input(l, 0), y = lower_output(l, 0);
    row_launch r = rows_of(&x);
    row_split split = split_rows(l->traits, r.rows, r.length);
    add_vectors(&r, &x, false);
    add_vectors(&r, &y, true);
    int kernel =
        lower_kernel(l, "softmax", "softmax", split.group,
                     "-DTX=%s -DTY=%s -DLOGARITHM=%d -DKEEP_POWERS=%d -DALIGNED=%d", name_of(&x),
                     name_of(&y), logarithm, !logarithm && y.dtype == BRIM_F32, aligned(l, &r));
    launch_rows(l, &r, kernel, &split);
}

void lower_softmax(lowering *l) {
    softmax(l, 0);
}
void lower_log_softmax(lowering *l) {
    softmax(l, 1);
}

static void softmax_backward(lowering *l, int logarithm) {
    operand y = lower_input(l, 0), dy = lower_input(l, 1), dx = lower_output(l, 0);
    row_launch r = rows_of(&y);
    row_split split = split_rows(l->traits, r.rows, r.length);
    add_vectors(&r, &y, false);
    add_vectors(&r, &dy, false);
    add_vectors(&r, &dx, true);
    int kernel = lower_kernel(l, "softmax_backward", "softmax_backward", split.group,
                              "-DTY=%s -DTDY=%s -DTDX=%s -DLOGARITHM=%d -DALIGNED=%d", name_of(&y),
                              name_of(&dy), name_of(&dx), logarithm, aligned(l, &r));
    launch_rows(l, &r, kernel, &split);
}

void lower_softmax_backward(lowering *l) {
    softmax_backward(l, 0);
}
void lower_log_softmax_backward(lowering *l) {
    softmax_backward(l, 1);
}

// ---- norms --------------------------------------------------------------------------------------

// CENTERED: of x, gain, bias to y, mean, rstd; else of x, gain to y, rstd.
static void norm(lowering *l, bool centered) {
    operand x = lower_input(l, 0), gain = lower_input(l, 1),
            bias = lower_input(l, centered ? 2 : 1);
    operand y = lower_output(l, 0), mean = lower_output(l, 1),
            rstd = lower_output(l, centered ? 2 : 1);
    row_launch r = rows_of(&x);
    row_split split = split_rows(l->traits, r.rows, r.length);
    add_vectors(&r, &x, false);
    add_vectors(&r, &gain, false);
    if (centered) add_vectors(&r, &bias, false);
    add_vectors(&r, &y, true);
    if (centered) add(&r, arg_write(&mean));
    add(&r, arg_write(&rstd));
    add(&r, arg_f32(l->node->attr.scalar[0]));
    int kernel = lower_kernel(l, "norm", "norm_forward", split.group,
                              "-DTX=%s -DTG=%s -DTY=%s -DCENTERED=%d -DALIGNED=%d", name_of(&x),
                              name_of(&gain), name_of(&y), centered, aligned(l, &r));
    launch_rows(l, &r, kernel, &split);
}

void lower_layer_norm(lowering *l) {
    norm(l, true);
}
void lower_rms_norm(lowering *l) {
    norm(l, false);
}

// CENTERED: of dy, x, gain, mean, rstd; else of dy, x, gain, rstd.
static void norm_backward(lowering *l, bool centered) {
    operand dy = lower_input(l, 0), x = lower_input(l, 1), gain = lower_input(l, 2);
    operand mean = lower_input(l, 3), rstd = lower_input(l, centered ? 4 : 3),
            dx = lower_output(l, 0);
    row_launch r = rows_of(&x);
    row_split split = split_rows(l->traits, r.rows, r.length);
    add_vectors(&r, &dy, false);
    add_vectors(&r, &x, false);
    add_vectors(&r, &gain, false);
    if (centered) add(&r, arg_read(&mean));
    add(&r, arg_read(&rstd));
    add_vectors(&r, &dx, true);
    int kernel =
        lower_kernel(l, "norm_backward", "norm_backward", split.group,
                     "-DTDY=%s -DTX=%s -DTG=%s -DTDX=%s -DCENTERED=%d -DALIGNED=%d", name_of(&dy),
                     name_of(&x), name_of(&gain), name_of(&dx), centered, aligned(l, &r));
    launch_rows(l, &r, kernel, &split);
}

void lower_layer_norm_backward(lowering *l) {
    norm_backward(l, true);
}
void lower_rms_norm_backward(lowering *l) {
    norm_backward(l, false);
}

// ---- cross entropy ------------------------------------------------------------------------------

void lower_cross_entropy(lowering *l) {
    operand x = lower_input(l, 0), target = lower_input(l, 1);
    operand loss = lower_output(l, 0), logsumexp = lower_output(l, 1);
    row_launch r = rows_of(&x);
    row_split split = split_rows(l->traits, r.rows, r.length);
    add_vectors(&r, &x, false);
    add(&r, arg_read(&target));
    add(&r, arg_write(&loss));
    add(&r, arg_write(&logsumexp));
    add(&r, arg_i32(l->node->attr.targets.ignore));
    int kernel = lower_kernel(l, "cross_entropy", "cross_entropy", split.group,
                              "-DTX=%s -DALIGNED=%d", name_of(&x), aligned(l, &r));
    launch_rows(l, &r, kernel, &split);
}

void lower_cross_entropy_backward(lowering *l) {
    operand x = lower_input(l, 0), target = lower_input(l, 1), logsumexp = lower_input(l, 2);
    operand dy = lower_input(l, 3), dx = lower_output(l, 0);
    row_launch r = rows_of(&x);
    row_split split = split_rows(l->traits, r.rows, r.length);
    add_vectors(&r, &x, false);
    add(&r, arg_read(&target));
    add(&r, arg_read(&logsumexp));
    add(&r, arg_read(&dy));
    add_vectors(&r, &dx, true);
    add(&r, arg_i32(l->node->attr.targets.ignore));
    add(&r, arg_i32(0));
    add(&r, arg_i32(r.length));
    add(&r, arg_i32(r.length));
    int kernel =
        lower_kernel(l, "cross_entropy_backward", "cross_entropy_backward", split.group,
                     "-DTX=%s -DTDX=%s -DALIGNED=%d", name_of(&x), name_of(&dx), aligned(l, &r));
    launch_rows(l, &r, kernel, &split);
}
