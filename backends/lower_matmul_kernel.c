// Products that no library serves, by kernels/matmul.k.
#include "backends/lower_rules.h"

#include "backends/lower_reduction.h"
#include "backends/lower_split.h"

enum {
    CPU_HEIGHT = 6 * 12, // rows of a tile on a CPU, as in the kernel
    BIG = 8,
    SMALL = 4, // rows and columns of a GPU's work-item
    ENOUGH_TILES =
        128, // that keep a GPU busy: with fewer, tiles are smaller, and k is cut into parts
    PART_LENGTH = 512, // of k, at least
    DEPTH = 16,        // of a slice of k, as in the kernel
    LEAST_GROUP = 64,
    MOST_GROUP = 256,
    GRID_LIMIT = 65535 // of a grid's third axis
};

// How a product is cut up. It follows from the product's shape and the kind of device, never from a
// plan.
typedef struct tiling {
    int group, each;       // rows and columns of a work-item
    int64_t rows, columns; // of a tile
    int64_t tiles;         // of one matrix
    int64_t part, parts;   // of k
} tiling;

static tiling tiles_of(const device_traits *traits, const matmul_shape *s, int each) {
    tiling t = {.group = traits->group, .each = each, .part = s->k, .parts = 1};
    if (t.group == 1) {
        t.rows = CPU_HEIGHT;
        t.columns = (traits->vec >= 16 ? 4 : 2) * (int64_t)traits->vec;
    } else {
        if (t.group < LEAST_GROUP) t.group = LEAST_GROUP;
        if (t.group > MOST_GROUP) t.group = MOST_GROUP;
        if (t.each < traits->vec) t.each = traits->vec;
        int64_t across = t.group >= 128 ? 16 : 8;
        t.rows = t.group / across * t.each;
        t.columns = across * t.each;
    }
    t.tiles = divide_up(s->m, t.rows) * divide_up(s->n, t.columns);
    return t;
}

static tiling tiling_of(const device_traits *traits, const matmul_shape *s) {
    tiling t = tiles_of(traits, s, BIG);
    if (traits->group == 1) return t;
    if (t.tiles * s->batch < ENOUGH_TILES) t = tiles_of(traits, s, SMALL);
    bool dense = s->row_c == s->n && (s->batch == 1 || s->batch_c == s->m * s->n);
    int64_t wanted = ENOUGH_TILES / (t.tiles * s->batch), most = s->k / PART_LENGTH;
    if (wanted > most) wanted = most;
    if (!dense || wanted < 2) return t;
    t.part = divide_up(divide_up(s->k, wanted), DEPTH) * DEPTH;
    t.parts = divide_up(s->k, t.part);
    return t;
}

static int strides_aligned(const device_traits *traits, const matmul_shape *s, const operand *a,
                           const operand *b, const operand *c) {
    const int64_t strides[] = {s->row_a, s->row_b, s->row_c, s->batch_a, s->batch_b, s->batch_c};
    for (int i = 0; i < 6; i++)
        if (strides[i] % traits->vec) return 0;
    return vectors_aligned(traits, (const operand *const[]){a, b, c}, 3, traits->vec);
}

static int64_t parts_bytes(const matmul_shape *s, const tiling *t) {
    return t->parts == 1 ? 0 : t->parts * s->batch * s->m * s->n * 4;
}

void lower_matmul_kernel(lowering *l, const matmul_shape *s, const operand *a, const operand *b,
                         const operand *c, byte_range workspace) {
    tiling t = tiling_of(l->traits, s);
    operand to = *c;
    if (t.parts > 1) {
        to.dtype = BRIM_F32;
        to.range = workspace;
        to.range.bytes = parts_bytes(s, &t);
        to.offset = to.range.offset;
    }
    int kernel = lower_kernel(
        l, "matmul", "matmul", t.group,
        "-DTIN=%s -DTOUT=%s -DTRANSPOSE_A=%d -DTRANSPOSE_B=%d -DROWS=%d -DCOLUMNS=%d -DALIGNED=%d",
        brim_dtype_name(s->in), brim_dtype_name(to.dtype), s->transpose_a, s->transpose_b, t.each,
        t.each, strides_aligned(l->traits, s, a, b, &to));
    LOWER_LAUNCH(l, kernel, t.tiles, t.parts, s->batch < GRID_LIMIT ? s->batch : GRID_LIMIT,
                 arg_read(a), arg_read(b), arg_write(&to), arg_i32(s->m), arg_i32(s->n),
                 arg_i32(s->k), arg_i32(s->batch), arg_i64(s->row_a), arg_i64(s->row_b),
                 arg_i64(s->row_c), arg_i64(s->batch_a), arg_i64(s->batch_b), arg_i64(s->batch_c),
                 arg_i32(t.part), arg_i64(s->batch * s->m * s->n));
    if (t.parts == 1) return;
    operand out = *c;
    out.shape = (shape){.rank = 1, .dim = {s->batch * s->m * s->n}};
    lower_add_parts(l, to.range, t.parts, &out);
}

int64_t workspace_matmul_kernel(const lowering *l, const matmul_shape *s) {
    tiling t = tiling_of(l->traits, s);
    return parts_bytes(s, &t);
}
