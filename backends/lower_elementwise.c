// Elementwise ops, alone or as chains: the iteration space is made as small as the operands'
// strides allow, and a kernel is generated for what is left.
#include "backends/lower_rules.h"

#include <stdlib.h>
#include <string.h>
#include "backends/chain_source.h"
#include "core/alloc.h"

// Elements that one work-item of a CPU device takes: enough to make a group's cost small, few
// enough to share out.
enum { CPU_ITEM_ELEMENTS = 16384, CPU_ITEMS_PER_UNIT = 4 };
// Columns that a CPU device walks before the next row where operands are strided: as many cache
// lines fit into L1.
enum { CPU_STRIDED_COLUMNS = 128 };

typedef struct chain_space {
    int dims;
    int64_t extent[BRIM_MAX_DIMS];
} chain_space;

// An operand in the chain's space.
typedef struct chain_operand {
    const operand *value;
    int64_t stride[BRIM_MAX_DIMS];
    operand_walk walk;
} chain_operand;

// ---- the iteration space ------------------------------------------------------------------------

// Strides along the axes of `s`; 0 where the operand has an extent of 1 or no such axis.
static void broadcast_strides(const operand *x, const shape *s, int64_t *stride) {
    int missing = s->rank - x->shape.rank;
    for (int d = 0; d < s->rank; d++) {
        int own = d - missing;
        stride[d] = own >= 0 && x->shape.dim[own] > 1 ? x->stride[own] : 0;
    }
}

// Can axis d be walked as the continuation of the next axis inwards, by every operand?
static bool axes_merge(const chain_operand *x, int count, int outer, int inner,
                       int64_t inner_extent) {
    for (int i = 0; i < count; i++)
        if (x[i].stride[outer] != x[i].stride[inner] * inner_extent) return false;
    return true;
}

// Drops axes of extent 1 and merges neighbours. At least one axis is left.
static chain_space collapse(const shape *s, chain_operand *x, int count) {
    chain_space space = {0};
    for (int d = 0; d < s->rank; d++) {
        if (s->dim[d] == 1) continue;
        int last = space.dims - 1;
        bool merges = last >= 0 && axes_merge(x, count, last, d, s->dim[d]);
        int to = merges ? last : space.dims++;
        space.extent[to] = merges ? space.extent[to] * s->dim[d] : s->dim[d];
        for (int i = 0; i < count; i++) x[i].stride[to] = x[i].stride[d];
    }
    if (space.dims) return space;
    space = (chain_space){1, {1}};
    for (int i = 0; i < count; i++) x[i].stride[0] = 1;
    return space;
}

// A last axis shorter than a vector changes places with the longest one.
static void choose_inner_axis(chain_space *space, chain_operand *x, int count, int vec) {
    int last = space->dims - 1, longest = last;
    for (int d = 0; d < last; d++)
        if (space->extent[d] > space->extent[longest]) longest = d;
    if (space->extent[last] >= vec || longest == last) return;
    int64_t extent = space->extent[longest];
    memmove(space->extent + longest, space->extent + longest + 1,
            (size_t)(last - longest) * sizeof extent);
    space->extent[last] = extent;
    for (int i = 0; i < count; i++) {
        int64_t *stride = x[i].stride, moved = stride[longest];
        memmove(stride + longest, stride + longest + 1, (size_t)(last - longest) * sizeof moved);
        stride[last] = moved;
    }
}

static operand_walk walk_of(const int64_t *stride, int dims) {
    bool still = true;
    for (int d = 0; d < dims; d++) still = still && stride[d] == 0;
    int64_t inner = stride[dims - 1];
    return still ? WALK_SCALAR : inner == 1 ? WALK_DENSE : inner == 0 ? WALK_ROW : WALK_STRIDED;
}

// ---- how the work is cut ------------------------------------------------------------------------

typedef struct chain_tiling {
    int64_t tasks, per_item, block, count, groups;
    bool rows_first;
} chain_tiling;

static int64_t divide_up(int64_t a, int64_t b) {
    return (a + b - 1) / b;
}

// Results do not depend on the tiling, so it may follow from the device.
static chain_tiling tile(const device_traits *t, const chain_space *space, bool strided) {
    int64_t inner = space->extent[space->dims - 1], rows = 1;
    for (int d = 0; d < space->dims - 1; d++) rows *= space->extent[d];
    chain_tiling r = {.per_item = 1, .block = t->vec, .rows_first = strided && rows > 1};
    if (t->group == 1) {
        int64_t items = (int64_t)(t->compute_units > 0 ? t->compute_units : 1) * CPU_ITEMS_PER_UNIT;
        int64_t share = divide_up(rows * inner, items);
        if (share > CPU_ITEM_ELEMENTS) share = CPU_ITEM_ELEMENTS;
        int64_t columns = share < inner ? share : inner;
        if (r.rows_first && columns > CPU_STRIDED_COLUMNS) columns = CPU_STRIDED_COLUMNS;
        r.block = divide_up(columns, t->vec) * t->vec;
        r.per_item = share > columns ? share / columns : 1;
    }
    while (rows * divide_up(inner, r.block) > INT32_MAX / 2) r.block *= 2;
    r.count = r.rows_first ? rows : divide_up(inner, r.block);
    r.tasks = rows * divide_up(inner, r.block);
    r.groups = divide_up(r.tasks, r.per_item * t->group);
    return r;
}

// May vector accesses assume whole vectors? The second use of a storage's alignment: it is at least
// that of a vector.
static bool is_aligned(const device_traits *t, const chain_operand *x, int count, int dims) {
    if (t->cpu || t->vec == 1) return false;
    for (int i = 0; i < count; i++) {
        if (x[i].walk != WALK_DENSE) continue;
        int64_t bytes = t->vec * (int64_t)brim_dtype_bytes(x[i].value->dtype);
        if (x[i].value->offset % bytes) return false;
        for (int d = 0; d < dims - 1; d++)
            if (x[i].stride[d] % t->vec) return false;
    }
    return true;
}

// ---- emission -----------------------------------------------------------------------------------

typedef struct chain_call {
    const chain *chain;
    int inputs, count; // count: with outputs
    chain_operand *operand;
    chain_space space;
    chain_tiling tiling;
} chain_call;

static int make_kernel(lowering *l, const chain_call *call) {
    brim_dtype *dtype = brim_calloc_array((size_t)call->count, sizeof *dtype, l->err);
    operand_walk *walk = brim_calloc_array((size_t)call->count, sizeof *walk, l->err);
    int kernel = -1;
    if (!failed(l->err)) {
        for (int i = 0; i < call->count; i++) {
            dtype[i] = call->operand[i].value->dtype;
            walk[i] = call->operand[i].walk;
        }
        strbuf source = {.err = l->err};
        char entry[CHAIN_ENTRY_BYTES];
        chain_form form = {
            call->chain, call->space.dims, call->inputs, call->tiling.rows_first, dtype, walk};
        chain_source(&form, &source, entry);
        bool aligned = is_aligned(l->traits, call->operand, call->count, call->space.dims);
        kernel =
            lower_generated_kernel(l, entry, strbuf_text(&source), 0, aligned ? "-DALIGNED=1" : "");
        strbuf_free(&source);
    }
    free(dtype);
    free(walk);
    return kernel;
}

static int push_strides(launch_argument *to, const chain_operand *x, int dims) {
    int n = 0;
    if (x->walk == WALK_SCALAR) return 0;
    for (int d = 0; d < dims - 1; d++) to[n++] = arg_i32(x->stride[d]);
    if (x->walk == WALK_STRIDED) to[n++] = arg_i32(x->stride[dims - 1]);
    return n;
}

static void launch(lowering *l, const chain_call *call) {
    const chain_tiling *t = &call->tiling;
    int dims = call->space.dims, n = 0, kernel = make_kernel(l, call);
    size_t most = (size_t)call->count * (1 + BRIM_MAX_DIMS) + 5 + BRIM_MAX_DIMS;
    launch_argument *a = brim_calloc_array(most, sizeof *a, l->err);
    if (!a) return;
    for (int i = 0; i < call->count; i++)
        a[n++] = (i < call->inputs ? arg_read : arg_write)(call->operand[i].value);
    a[n++] = arg_i32(t->tasks);
    a[n++] = arg_i32(t->per_item);
    a[n++] = arg_i32(t->block);
    a[n++] = arg_i64(call->space.extent[dims - 1]);
    if (dims > 1) a[n++] = arg_i32(t->count);
    for (int d = 1; d < dims - 1; d++) a[n++] = arg_i32(call->space.extent[d]);
    for (int i = 0; i < call->count; i++) n += push_strides(a + n, &call->operand[i], dims);
    lower_launch(l, kernel, (const int64_t[3]){t->groups, 1, 1}, a, n);
    free(a);
}

static bool check_outputs(lowering *l, const chain *c, const operand *outputs) {
    for (int i = 0; i < c->outputs; i++) {
        if (shape_equal(&outputs[i].shape, &outputs[0].shape) &&
            outputs[i].dtype == c->step[c->output[i]].dtype)
            continue;
        char a[80], b[80];
        brim_fail(l->err, BRIM_GRAPH, "output %d of a chain is %s %s, not %s %s", i,
                  brim_dtype_name(outputs[i].dtype), shape_print(&outputs[i].shape, a, sizeof a),
                  brim_dtype_name(c->step[c->output[i]].dtype),
                  shape_print(&outputs[0].shape, b, sizeof b));
        return false;
    }
    return true;
}

void lower_chain(lowering *l, const chain *c, const operand *inputs, int count,
                 const operand *outputs) {
    if (failed(l->err) || !check_outputs(l, c, outputs)) return;
    const shape *s = &outputs[0].shape;
    chain_call call = {.chain = c, .inputs = count, .count = count + c->outputs};
    call.operand = brim_calloc_array((size_t)call.count, sizeof *call.operand, l->err);
    if (!call.operand) return;
    for (int i = 0; i < call.count; i++) {
        call.operand[i].value = i < count ? &inputs[i] : &outputs[i - count];
        broadcast_strides(call.operand[i].value, s, call.operand[i].stride);
    }
    call.space = collapse(s, call.operand, call.count);
    choose_inner_axis(&call.space, call.operand, call.count, l->traits->vec);
    bool strided = false;
    for (int i = 0; i < call.count; i++) {
        call.operand[i].walk = walk_of(call.operand[i].stride, call.space.dims);
        strided = strided || call.operand[i].walk == WALK_STRIDED;
    }
    call.tiling = tile(l->traits, &call.space, strided);
    launch(l, &call);
    free(call.operand);
}

// ---- nodes --------------------------------------------------------------------------------------

static chain_step single_step(const lowering *l) {
    const graph_node *n = l->node;
    chain_step step = {
        .op = n->op, .dtype = l->graph->value[n->first_output].dtype, .operand = {~0, ~1, ~2}};
    if (op_table[n->op].attr == ATTR_SCALARS)
        memcpy(step.scalar, n->attr.scalar, sizeof step.scalar);
    return step;
}

void lower_elementwise(lowering *l) {
    const graph_node *n = l->node;
    chain_step step = single_step(l);
    chain alone = {1, 1, &step, (const int16_t[]){0}};
    const chain *c = n->op == OP_FUSED ? n->attr.chain : &alone;
    operand *x = brim_calloc_array((size_t)(n->inputs + n->outputs), sizeof *x, l->err);
    if (!x) return;
    for (int i = 0; i < n->inputs; i++) x[i] = lower_input(l, i);
    for (int i = 0; i < n->outputs; i++) x[n->inputs + i] = lower_output(l, i);
    lower_chain(l, c, x, n->inputs, x + n->inputs);
    free(x);
}

void lower_copy_elements(lowering *l, const operand *from, const operand *to) {
    chain_step step = {.op = OP_COPY, .dtype = to->dtype, .operand = {~0}};
    chain c = {1, 1, &step, (const int16_t[]){0}};
    lower_chain(l, &c, from, 1, to);
}

void lower_fill_elements(lowering *l, double value, const operand *to) {
    chain_step step = {.op = OP_CONSTANT, .dtype = to->dtype, .scalar = {(float)value}};
    chain c = {1, 1, &step, (const int16_t[]){0}};
    lower_chain(l, &c, NULL, 0, to);
}
