// Rules for sums, sums of squares and maxima over axes, and for the gradients of gain and bias,
// which are sums down the columns. Operands are dense.
//
// Neighbouring axes that are both kept or both reduced are one. Then the last reduced axis goes
// first: as [outer, n, inner] in one stage, or, where n is long, in blocks and a further stage over
// the blocks. Lengths of blocks follow from shapes only, so a sum's order does not depend on a
// plan.
#include "backends/lower_reduction.h"

#include "backends/lower_rules.h"
#include "backends/lower_split.h"

enum {
    ROW_BLOCK = 8192,    // elements of a row that one group reduces
    COLUMN_BLOCKS = 128, // of a column, at most
    COLUMN_BLOCK = 32,   // rows in one, at least
    COLUMN_WHOLE = 1024, // rows that need no blocks where there are COLUMN_MANY columns
    COLUMN_MANY = 65536,
    ITEM_LENGTH = 32,     // shorter rows get one work-item each on a GPU
    CPU_ELEMENTS = 32768, // worth a group on a CPU
    LANES = 32,           // as in the kernels
    GRID_LIMIT = 65535,   // of a grid's second axis
    MAX_STAGES =
        12 // three reduced axes apart, at most five stages for rows of 2^63 and two for columns
};

typedef enum operation { SUM, SUM_SQUARES, LARGEST } operation;

typedef struct stage {
    int64_t outer, n, inner; // what it reads
    int64_t block, blocks;   // it leaves [outer, blocks, inner]
} stage;

typedef struct reduction {
    stage stage[MAX_STAGES];
    int stages;
} reduction;

static int64_t smaller(int64_t a, int64_t b) {
    return a < b ? a : b;
}
static int64_t larger(int64_t a, int64_t b) {
    return a > b ? a : b;
}

static int64_t row_block(int64_t n) {
    return n > 2 * ROW_BLOCK ? ROW_BLOCK : n;
}

static int64_t column_block(int64_t outer, int64_t n, int64_t inner) {
    if (n <= COLUMN_BLOCK || (n <= COLUMN_WHOLE && outer * inner >= COLUMN_MANY)) return n;
    return larger(COLUMN_BLOCK, divide_up(n, COLUMN_BLOCKS));
}

// Adds the stages that reduce n to one.
static void add_axis(reduction *r, int64_t outer, int64_t n, int64_t inner) {
    do {
        stage *s = &r->stage[r->stages++];
        *s = (stage){outer, n, inner, 0, 0};
        s->block = inner == 1 ? row_block(n) : column_block(outer, n, inner);
        s->blocks = divide_up(n, s->block);
        n = s->blocks;
    } while (n > 1);
}

static reduction reduction_of(const shape *x, uint32_t axes) {
    reduction r = {.stages = 0};
    int64_t inner = 1, outer;
    for (int i = x->rank - 1; i >= 0; i--) {
        int64_t n = 1;
        for (; i >= 0 && (axes >> i & 1); i--) n *= x->dim[i];
        outer = 1;
        for (int j = i; j >= 0; j--) outer *= x->dim[j];
        if (n > 1) add_axis(&r, outer, n, inner);
        if (i >= 0) inner *= x->dim[i];
    }
    // Nothing to reduce: one stage that converts.
    if (!r.stages) add_axis(&r, inner, 1, 1);
    return r;
}

// Results of stages that are not the last lie in the workspace: of even ones at its start, of odd
// ones behind those.
static int64_t results_bytes(const reduction *r, int parity) {
    int64_t most = 0;
    for (int i = parity; i + 1 < r->stages; i += 2) {
        const stage *s = &r->stage[i];
        most = larger(most, s->outer * s->blocks * s->inner * 4);
    }
    return divide_up(most, 256) * 256;
}

static byte_range stage_result(const lowering *l, const reduction *r, int index) {
    const stage *s = &r->stage[index];
    byte_range whole = lower_workspace(l);
    int64_t offset = whole.offset + (index % 2 ? results_bytes(r, 0) : 0);
    return (byte_range){SPACE_DEVICE, offset, s->outer * s->blocks * s->inner * 4};
}

typedef struct tensor_bytes {
    launch_argument argument;
    brim_dtype dtype;
} tensor_bytes;

static operand start_of(const tensor_bytes *x) {
    return (operand){.dtype = x->dtype, .offset = x->argument.argument.as.offset};
}

// The columns that a group takes, a multiple of what its work-items take at once.
static int64_t column_span(const device_traits *traits, int64_t height, int64_t columns) {
    int64_t tile = smaller(traits->group, LANES) * traits->vec;
    int64_t tiles = divide_up(columns, tile), wanted = 1;
    if (traits->group == 1) wanted = divide_up(larger(CPU_ELEMENTS / larger(height, 1), 1), tile);
    return larger(smaller(wanted, tiles), divide_up(tiles, GRID_LIMIT)) * tile;
}

static void launch_rows(lowering *l, const stage *s, operation op, const tensor_bytes *x,
                        const tensor_bytes *y) {
    bool items = l->traits->group > 1 && s->n < ITEM_LENGTH;
    int64_t rows = s->outer * s->blocks;
    row_split split = split_rows(l->traits, rows, s->block);
    int64_t groups = items ? divide_up(rows, split.group) : split.groups;
    operand a = start_of(x);
    int kernel = lower_kernel(l, "reduce", items ? "reduce_items" : "reduce_rows", split.group,
                              "-DTX=%s -DTY=%s -DOPERATION=%d -DALIGNED=%d",
                              brim_dtype_name(x->dtype), brim_dtype_name(y->dtype), op,
                              vectors_aligned(l->traits, (const operand *const[]){&a}, 1, s->n));
    if (items)
        LOWER_LAUNCH(l, kernel, groups, 1, 1, x->argument, y->argument, arg_i32(s->n),
                     arg_i64(rows));
    else
        LOWER_LAUNCH(l, kernel, groups, 1, 1, x->argument, y->argument, arg_i64(s->n),
                     arg_i32(s->block), arg_i32(s->blocks), arg_i64(rows), arg_i32(split.per));
}

static void launch_columns(lowering *l, const stage *s, operation op, const tensor_bytes *x,
                           const tensor_bytes *y) {
    int64_t span = column_span(l->traits, s->block, s->inner);
    operand a = start_of(x), b = start_of(y);
    int kernel = lower_kernel(
        l, "reduce", "reduce_columns", 0, "-DTX=%s -DTY=%s -DOPERATION=%d -DALIGNED=%d",
        brim_dtype_name(x->dtype), brim_dtype_name(y->dtype), op,
        vectors_aligned(l->traits, (const operand *const[]){&a, &b}, 2, s->inner));
    LOWER_LAUNCH(l, kernel, s->outer * s->blocks, divide_up(s->inner, span), 1, x->argument,
                 y->argument, arg_i64(s->n), arg_i32(s->block), arg_i32(s->blocks),
                 arg_i64(s->inner), arg_i64(span));
}

static void launch_stage(lowering *l, const stage *s, operation op, const tensor_bytes *x,
                         const tensor_bytes *y) {
    if (s->inner == 1)
        launch_rows(l, s, op, x, y);
    else
        launch_columns(l, s, op, x, y);
}

static void reduce(lowering *l, operation op) {
    operand x = lower_input(l, 0), y = lower_output(l, 0);
    reduction r = reduction_of(&x.shape, l->node->attr.reduce.axes);
    tensor_bytes from = {arg_read(&x), x.dtype};
    for (int i = 0; i < r.stages; i++) {
        bool last = i + 1 == r.stages;
        byte_range range = last ? y.range : stage_result(l, &r, i);
        tensor_bytes to = {last ? arg_write(&y) : arg_bytes(range, true),
                           last ? y.dtype : BRIM_F32};
        // What has been squared once is only added up after that.
        launch_stage(l, &r.stage[i], op == SUM_SQUARES && i ? SUM : op, &from, &to);
        from = (tensor_bytes){arg_bytes(range, false), BRIM_F32};
    }
}

static int64_t reduce_workspace(const lowering *l) {
    operand x = lower_input(l, 0);
    reduction r = reduction_of(&x.shape, l->node->attr.reduce.axes);
    return results_bytes(&r, 0) + results_bytes(&r, 1);
}

void lower_sum(lowering *l) {
    reduce(l, SUM);
}
void lower_sum_squares(lowering *l) {
    reduce(l, SUM_SQUARES);
}
void lower_max(lowering *l) {
    reduce(l, LARGEST);
}
int64_t workspace_sum(const lowering *l) {
    return reduce_workspace(l);
}
int64_t workspace_sum_squares(const lowering *l) {
    return reduce_workspace(l);
}
int64_t workspace_max(const lowering *l) {
    return reduce_workspace(l);
}

// ---- gradients of gain and bias -----------------------------------------------------------------

static stage rows_stage(const shape *x) {
    int64_t rows = leading_elements(x), n = last_extent(x), block = column_block(1, rows, n);
    return (stage){1, rows, n, block, divide_up(rows, block)};
}

// The blocks' sums for output `index`, in the workspace, or the output itself where there is one
// block.
static byte_range block_sums(const lowering *l, const stage *s, int index, const operand *out) {
    if (s->blocks == 1) return out->range;
    int64_t bytes = s->blocks * s->inner * 4;
    return (byte_range){SPACE_DEVICE,
                        lower_workspace(l).offset + index * (divide_up(bytes, 256) * 256), bytes};
}

void lower_add_parts(lowering *l, byte_range parts_range, int64_t parts, const operand *out) {
    stage s = {1, parts, shape_elements(&out->shape), parts, 1};
    launch_stage(l, &s, SUM, &(tensor_bytes){arg_bytes(parts_range, false), BRIM_F32},
                 &(tensor_bytes){arg_write(out), out->dtype});
}

// CENTERED: of dy, x, mean, rstd to the gradients of gain and bias; else of dy, x, rstd to that of
// gain.
static void norm_params(lowering *l, bool centered) {
    operand dy = lower_input(l, 0), x = lower_input(l, 1), rstd = lower_input(l, centered ? 3 : 2);
    operand gain = lower_output(l, 0), bias = lower_output(l, centered ? 1 : 0);
    stage s = rows_stage(&x.shape);
    byte_range gain_sums = block_sums(l, &s, 0, &gain), bias_sums = block_sums(l, &s, 1, &bias);
    int64_t span = column_span(l->traits, s.block, s.inner);
    operand sums = {.dtype = BRIM_F32, .offset = gain_sums.offset};
    operand other_sums = {.dtype = BRIM_F32, .offset = bias_sums.offset};
    int aligned = vectors_aligned(l->traits, (const operand *const[]){&dy, &x, &sums, &other_sums},
                                  4, s.inner);
    int kernel = lower_kernel(
        l, "norm_params", "norm_params", 0, "-DTDY=%s -DTX=%s -DCENTERED=%d -DALIGNED=%d",
        brim_dtype_name(dy.dtype), brim_dtype_name(x.dtype), centered, aligned);
    launch_argument arguments[12];
    int count = 0;
    arguments[count++] = arg_read(&dy);
    arguments[count++] = arg_read(&x);
    if (centered) {
        operand mean = lower_input(l, 2);
        arguments[count++] = arg_read(&mean);
    }
    arguments[count++] = arg_read(&rstd);
    arguments[count++] = arg_bytes(gain_sums, true);
    if (centered) arguments[count++] = arg_bytes(bias_sums, true);
    arguments[count++] = arg_i64(s.n);
    arguments[count++] = arg_i32(s.block);
    arguments[count++] = arg_i64(s.inner);
    arguments[count++] = arg_i64(span);
    lower_launch(l, kernel, (const int64_t[3]){s.blocks, divide_up(s.inner, span), 1}, arguments,
                 count);
    if (s.blocks == 1) return;
    lower_add_parts(l, gain_sums, s.blocks, &gain);
    if (centered) lower_add_parts(l, bias_sums, s.blocks, &bias);
}

static int64_t norm_params_workspace(const lowering *l, int outputs) {
    operand x = lower_input(l, 1);
    stage s = rows_stage(&x.shape);
    return s.blocks == 1 ? 0 : outputs * (divide_up(s.blocks * s.inner * 4, 256) * 256);
}

void lower_layer_norm_backward_params(lowering *l) {
    norm_params(l, true);
}
void lower_rms_norm_backward_params(lowering *l) {
    norm_params(l, false);
}
int64_t workspace_layer_norm_backward_params(const lowering *l) {
    return norm_params_workspace(l, 2);
}
int64_t workspace_rms_norm_backward_params(const lowering *l) {
    return norm_params_workspace(l, 1);
}
