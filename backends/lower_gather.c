// Rules for embeddings and rotary positions. Operands are dense.
#include "backends/lower_rules.h"

#include <math.h>
#include "backends/lower_split.h"

enum {
    // Work-items that sort positions; each goes through all of them. On a CPU one that takes all is
    // quicker than some that each guess which to take.
    CPU_TAKERS = 1,
    GPU_TAKERS = 4096,
    GPU_TOKENS = 4, // that a group of rotary takes on a GPU, to make up for finding its frequencies
    CPU_GROUPS = 16,   // of rotary on a CPU, at least, where there are batches to share out
    GRID_LIMIT = 65535 // of a grid's second axis
};

static const char *name_of(const operand *x) {
    return brim_dtype_name(x->dtype);
}
static int64_t larger(int64_t a, int64_t b) {
    return a > b ? a : b;
}
static int64_t smaller(int64_t a, int64_t b) {
    return a < b ? a : b;
}

// ---- embedding ----------------------------------------------------------------------------------

void lower_embedding(lowering *l) {
    operand table = lower_input(l, 0), ids = lower_input(l, 1), y = lower_output(l, 0);
    int64_t count = shape_elements(&ids.shape), width = last_extent(&table.shape);
    row_split split = split_rows(l->traits, count, width);
    int aligned = vectors_aligned(l->traits, (const operand *const[]){&table, &y}, 2, width);
    int kernel = lower_kernel(l, "embedding", "embedding", split.group, "-DT=%s -DALIGNED=%d",
                              name_of(&table), aligned);
    LOWER_LAUNCH(l, kernel, split.groups, 1, 1, arg_read(&table), arg_read(&ids), arg_write(&y),
                 arg_i32(table.shape.dim[0]), arg_i64(count), arg_i32(width), arg_i32(split.per));
}

// Where the sorted positions lie in the workspace, as int32.
typedef struct sorted {
    byte_range count, end, taken, order;
    int64_t takers, bytes;
} sorted;

static byte_range next_ints(sorted *s, int64_t base, int64_t count) {
    byte_range r = {SPACE_DEVICE, base + s->bytes, count * 4};
    s->bytes += divide_up(count * 4, 256) * 256;
    return r;
}

static sorted sorted_of(const device_traits *traits, int64_t base, int64_t positions,
                        int64_t rows) {
    sorted s = {.takers = traits->group};
    int64_t most = traits->group == 1 ? CPU_TAKERS : GPU_TAKERS;
    while (s.takers < most && s.takers < rows) s.takers *= 2;
    s.count = next_ints(&s, base, rows);
    s.end = next_ints(&s, base, rows);
    s.taken = next_ints(&s, base, s.takers);
    s.order = next_ints(&s, base, positions);
    return s;
}

static void sort_positions(lowering *l, const sorted *s, const operand *ids, int64_t rows) {
    int64_t positions = shape_elements(&ids->shape), groups = s->takers / l->traits->group;
    int count = lower_kernel(l, "embedding_order", "embedding_count", 0, "-DALIGNED=0");
    LOWER_LAUNCH(l, count, groups, 1, 1, arg_read(ids), arg_bytes(s->count, true),
                 arg_bytes(s->taken, true), arg_i32(positions), arg_i32(rows), arg_i32(s->takers));
    int place = lower_kernel(l, "embedding_order", "embedding_place", 0, "-DALIGNED=0");
    LOWER_LAUNCH(l, place, groups, 1, 1, arg_read(ids), arg_bytes(s->count, false),
                 arg_bytes(s->taken, false), arg_bytes(s->end, true), arg_bytes(s->order, true),
                 arg_i32(positions), arg_i32(rows), arg_i32(s->takers));
}

void lower_embedding_backward(lowering *l) {
    operand ids = lower_input(l, 0), dy = lower_input(l, 1), y = lower_output(l, 0);
    int64_t rows = y.shape.dim[0], width = last_extent(&y.shape);
    sorted s = sorted_of(l->traits, lower_workspace(l).offset, shape_elements(&ids.shape), rows);
    sort_positions(l, &s, &ids, rows);
    row_split split = split_rows(l->traits, rows, width);
    int aligned = vectors_aligned(l->traits, (const operand *const[]){&dy, &y}, 2, width);
    int kernel = lower_kernel(l, "embedding_backward", "embedding_backward", split.group,
                              "-DTDY=%s -DTY=%s -DALIGNED=%d", name_of(&dy), name_of(&y), aligned);
    LOWER_LAUNCH(l, kernel, split.groups, 1, 1, arg_read(&dy), arg_bytes(s.count, false),
                 arg_bytes(s.end, false), arg_bytes(s.order, false), arg_write(&y), arg_i64(rows),
                 arg_i32(width), arg_i32(split.per));
}

int64_t workspace_embedding_backward(const lowering *l) {
    operand ids = lower_input(l, 0), y = lower_output(l, 0);
    return sorted_of(l->traits, 0, shape_elements(&ids.shape), y.shape.dim[0]).bytes;
}

// ---- rotary -------------------------------------------------------------------------------------

// What a double is, as a sum of two floats.
static void add_two_floats(launch_argument *arguments, int *count, double x) {
    arguments[(*count)++] = arg_f32(x);
    arguments[(*count)++] = arg_f32(x - (double)(float)x);
}

static void add_strides(launch_argument *arguments, int *count, const operand *x) {
    for (int i = 0; i < 3; i++) arguments[(*count)++] = arg_i64(x->stride[i]);
}

// Aligned heads lie at multiples of a vector, and so do their second halves.
static int heads_aligned(const device_traits *traits, const operand *x, const operand *y) {
    return vectors_aligned(traits, (const operand *const[]){x, y}, 2, last_extent(&x->shape) / 2);
}

// Turns in `length` tokens, from low to high, as a line over the frequency from 0 to 1.
static void add_scaling(launch_argument *arguments, int *count, const brim_rotary_scaling *s) {
    double range = s->factor != 0 ? s->high - s->low : 1;
    arguments[(*count)++] = arg_f32(s->length / range);
    arguments[(*count)++] = arg_f32(s->low / range);
    arguments[(*count)++] = arg_f32(s->factor != 0 ? 1 / s->factor : 1);
}

void lower_rotary(lowering *l) {
    operand x = lower_input(l, 0), y = lower_output(l, 0);
    bool given = l->node->inputs > 1;
    const int64_t *dim = x.shape.dim;
    int64_t batches = dim[0], length = dim[1], half = dim[3] / 2, across = 1;
    row_split split = split_rows(l->traits, length, batches * dim[2] * half);
    while (across < split.group && across * l->traits->vec < half) across *= 2;
    if (split.group > 1) split.per = GPU_TOKENS;
    split.groups = divide_up(length, split.per);
    int64_t enough = split.group > 1 ? GRID_LIMIT : divide_up(CPU_GROUPS, larger(split.groups, 1));

    launch_argument arguments[24];
    int count = 0;
    arguments[count++] = arg_read(&x);
    if (given) {
        operand positions = lower_input(l, 1);
        arguments[count++] = arg_read(&positions);
    } else {
        arguments[count++] = arg_null();
    }
    arguments[count++] = arg_write(&y);
    add_strides(arguments, &count, &x);
    add_strides(arguments, &count, &y);
    add_two_floats(arguments, &count, 0.15915494309189535); // 1 / (2 pi)
    add_two_floats(arguments, &count,
                   pow(l->node->attr.rotary.base, -1.0 / (double)larger(half, 1)));
    arguments[count++] = arg_f32(l->node->attr.rotary.inverse ? -1 : 1);
    add_scaling(arguments, &count, &l->node->attr.rotary.scaling);
    arguments[count++] = arg_i32(across);
    arguments[count++] = arg_i32(batches);
    arguments[count++] = arg_i32(dim[2]);
    arguments[count++] = arg_i32(half);
    arguments[count++] = arg_i64(length);
    arguments[count++] = arg_i32(split.per);
    int kernel =
        lower_kernel(l, "rotary", "rotary", split.group,
                     "-DT=%s -DPOSITIONS=%d -DSCALED=%d -DALIGNED=%d", name_of(&x), given,
                     l->node->attr.rotary.scaling.factor != 0, heads_aligned(l->traits, &x, &y));
    lower_launch(l, kernel, (const int64_t[3]){split.groups, smaller(batches, enough), 1},
                 arguments, count);
}
