// Rules for fused attention. Two kernel files mean the same: attention_cpu.k for groups of one with
// wide vectors, attention.k for the rest. Their headers say how rows go to groups; the tables here
// repeat that.
#include "backends/lower_rules.h"
#include "backends/lower_split.h"

enum {
    CPU_ROWS = 64,
    CPU_LEAST_VEC = 8,
    CPU_MOST_CHUNK = 5,
    GPU_LEAST_GROUP = 64,
    GPU_BEST_GROUP = 128,
    DELTA_LANES = 8
};
enum { WORKSPACE_ALIGNMENT = 256 };

typedef struct attention_shape {
    int64_t batch, queries, keys, heads, kv_heads, dim;
} attention_shape;

static attention_shape shape_of(const lowering *l) {
    const shape *q = &l->graph->value[l->node->input[0]].shape,
                *k = &l->graph->value[l->node->input[1]].shape;
    return (attention_shape){.batch = q->dim[0],
                             .queries = q->dim[1],
                             .heads = q->dim[2],
                             .dim = q->dim[3],
                             .keys = k->dim[1],
                             .kv_heads = k->dim[2]};
}

static bool by_cpu_kernel(const device_traits *t) {
    return t->cpu && t->group == 1 && t->vec >= CPU_LEAST_VEC;
}

static int gpu_group(const device_traits *t) {
    int group = t->group > GPU_BEST_GROUP ? GPU_BEST_GROUP : t->group;
    return group < GPU_LEAST_GROUP ? GPU_LEAST_GROUP : group;
}

static int local_kib(const device_traits *t) {
    return t->local_bytes >= 48 * 1024 ? 48 : 32;
}

// Rows of a GPU group's tile by head size: ROWS in attention.k.
static int64_t gpu_rows(int64_t dim, bool backward) {
    if (backward) return dim <= 64 ? 32 : dim <= 128 ? 16 : 8;
    return dim <= 72 ? 64 : dim <= 144 ? 32 : 16;
}

// What the launches of one rule have in common.
typedef struct attention_launch {
    attention_shape s;
    const operand *segments; // NULL: none
    launch_argument argument[48];
    int arguments;
} attention_launch;

static void add(attention_launch *a, launch_argument argument) {
    a->argument[a->arguments++] = argument;
}

static void add_reads(attention_launch *a, const operand *const *x, int count) {
    for (int i = 0; i < count; i++) add(a, arg_read(x[i]));
}

static void add_segments(attention_launch *a) {
    add(a, a->segments ? arg_read(a->segments) : arg_null());
}

// The kernel's end of parameters: sizes, strides of the operands named, scale.
static void add_sizes(attention_launch *a, const operand *const *strided, int count, float scale) {
    const attention_shape *s = &a->s;
    const int64_t sizes[] = {s->heads, s->kv_heads, s->queries, s->keys};
    for (int i = 0; i < 4; i++) add(a, arg_i32(sizes[i]));
    for (int i = 0; i < count; i++)
        for (int axis = 0; axis < 3; axis++) add(a, arg_i64(strided[i]->stride[axis]));
    add(a, arg_f32(scale));
}

static void launch(lowering *l, attention_launch *a, int kernel, int64_t x, int64_t y, int64_t z) {
    lower_launch(l, kernel, (const int64_t[3]){x, y, z}, a->argument, a->arguments);
    a->arguments = 0;
}

// Vectors of four may be loaded whole if every row of every operand starts at a multiple of four
// elements.
static bool rows_aligned(const operand *const *x, int count, int64_t dim) {
    bool aligned = dim % 4 == 0;
    for (int i = 0; i < count; i++) {
        aligned &= x[i]->offset % (4 * (int64_t)brim_dtype_bytes(x[i]->dtype)) == 0;
        for (int axis = 0; axis < 3; axis++) aligned &= x[i]->stride[axis] % 4 == 0;
    }
    return aligned;
}

static int gpu_kernel(lowering *l, const attention_launch *a, const char *entry, bool backward,
                      bool aligned) {
    const device_traits *t = l->traits;
    if (t->max_group < GPU_LEAST_GROUP)
        brim_fail(l->err, BRIM_UNSUPPORTED,
                  "attention needs work-groups of %d; %s offers at most %d", GPU_LEAST_GROUP,
                  t->name, t->max_group);
    operand q = lower_input(l, 0);
    return lower_kernel(l, "attention", entry, gpu_group(t),
                        "-DDTYPE=%s -DHEAD_DIM=%d -DCAUSAL=%d -DSEGMENTS=%d -DBACKWARD=%d "
                        "-DLOCAL_KIB=%d -DALIGNED=%d",
                        brim_dtype_name(q.dtype), (int)a->s.dim, l->node->attr.attention.causal,
                        a->segments != NULL, backward, local_kib(t), aligned && t->vec == 4);
}

static int cpu_kernel(lowering *l, const attention_launch *a, const char *entry) {
    operand q = lower_input(l, 0);
    return lower_kernel(l, "attention_cpu", entry, 1,
                        "-DDTYPE=%s -DHEAD_DIM=%d -DCAUSAL=%d -DSEGMENTS=%d",
                        brim_dtype_name(q.dtype), (int)a->s.dim, l->node->attr.attention.causal,
                        a->segments != NULL);
}

// ---- forward ------------------------------------------------------------------------------------

void lower_attention(lowering *l) {
    attention_launch a = {.s = shape_of(l)};
    operand q = lower_input(l, 0), k = lower_input(l, 1), v = lower_input(l, 2), segments;
    operand o = lower_output(l, 0), lse = lower_output(l, 1);
    if (l->node->inputs > 3) {
        segments = lower_input(l, 3);
        a.segments = &segments;
    }
    const operand *strided[] = {&q, &k, &v, &o};
    bool cpu = by_cpu_kernel(l->traits);
    int kernel =
        cpu ? cpu_kernel(l, &a, "attention_forward")
            : gpu_kernel(l, &a, "attention_forward", false, rows_aligned(strided, 4, a.s.dim));
    add_reads(&a, strided, 3);
    add_segments(&a);
    add(&a, arg_write(&o));
    add(&a, arg_write(&lse));
    add_sizes(&a, strided, 4, l->node->attr.attention.scale);
    launch(l, &a, kernel, divide_up(a.s.queries, cpu ? CPU_ROWS : gpu_rows(a.s.dim, false)),
           a.s.heads, a.s.batch);
}

int64_t workspace_attention(const lowering *l) {
    (void)l;
    return 0;
}

// ---- backward -----------------------------------------------------------------------------------

// The operands of ATTENTION_BACKWARD in the order of op.def.
typedef struct backward_operands {
    operand q, k, v, o, lse, dout, segments, dq, dk, dv;
} backward_operands;

static int64_t row_bytes(const attention_shape *s) {
    return s->batch * s->heads * s->queries * (int64_t)sizeof(float);
}

// Rounded up, so that what lies behind delta starts at a whole vector.
static int64_t delta_bytes(const attention_shape *s) {
    return divide_up(row_bytes(s), WORKSPACE_ALIGNMENT) * WORKSPACE_ALIGNMENT;
}

static void backward_cpu(lowering *l, attention_launch *a, const backward_operands *x) {
    byte_range delta = lower_workspace(l), sums = delta;
    delta.bytes = delta_bytes(&a->s);
    sums.offset += delta.bytes;
    sums.bytes -= delta.bytes;
    const operand *strided[] = {&x->q, &x->k, &x->v, &x->o, &x->dout, &x->dq, &x->dk, &x->dv};
    add_reads(a, strided, 5);
    add_segments(a);
    add(a, arg_read(&x->lse));
    add(a, arg_bytes(delta, true));
    add(a, sums.bytes > 0 ? arg_bytes(sums, true) : arg_null());
    for (int i = 5; i < 8; i++) add(a, arg_write(strided[i]));
    add_sizes(a, strided, 8, l->node->attr.attention.scale);
    launch(l, a, cpu_kernel(l, a, "attention_backward"), a->s.kv_heads, a->s.batch, 1);
}

static void backward_gpu(lowering *l, attention_launch *a, const backward_operands *x) {
    byte_range delta = lower_workspace(l);
    const operand *strided[] = {&x->q, &x->k, &x->v, &x->o, &x->dout, &x->dq, &x->dk, &x->dv};
    bool aligned = rows_aligned(strided, 8, a->s.dim);
    float scale = l->node->attr.attention.scale;
    int64_t rows = gpu_rows(a->s.dim, true);

    const operand *sources[] = {&x->o, &x->dout};
    add_reads(a, sources, 2);
    add(a, arg_bytes(delta, true));
    add(a, arg_i32(a->s.heads));
    add(a, arg_i32(a->s.queries));
    for (int i = 0; i < 2; i++)
        for (int axis = 0; axis < 3; axis++) add(a, arg_i64(sources[i]->stride[axis]));
    launch(l, a, gpu_kernel(l, a, "attention_delta", true, aligned),
           divide_up(a->s.queries, gpu_group(l->traits) / DELTA_LANES), a->s.heads, a->s.batch);

    const operand *reads[] = {&x->q, &x->k, &x->v, &x->dout};
    const operand *kv[] = {&x->q, &x->k, &x->v, &x->dout, &x->dk, &x->dv};
    const operand *to_q[] = {&x->q, &x->k, &x->v, &x->dout, &x->dq};
    add_reads(a, reads, 4);
    add_segments(a);
    add(a, arg_read(&x->lse));
    add(a, arg_bytes(delta, false));
    add(a, arg_write(&x->dk));
    add(a, arg_write(&x->dv));
    add_sizes(a, kv, 6, scale);
    launch(l, a, gpu_kernel(l, a, "attention_backward_kv", true, aligned),
           divide_up(a->s.keys, rows), a->s.kv_heads, a->s.batch);

    add_reads(a, reads, 4);
    add_segments(a);
    add(a, arg_read(&x->lse));
    add(a, arg_bytes(delta, false));
    add(a, arg_write(&x->dq));
    add_sizes(a, to_q, 5, scale);
    launch(l, a, gpu_kernel(l, a, "attention_backward_q", true, aligned),
           divide_up(a->s.queries, rows), a->s.heads, a->s.batch);
}

void lower_attention_backward(lowering *l) {
    backward_operands x = {.q = lower_input(l, 0),
                           .k = lower_input(l, 1),
                           .v = lower_input(l, 2),
                           .o = lower_input(l, 3),
                           .lse = lower_input(l, 4),
                           .dout = lower_input(l, 5),
                           .dq = lower_output(l, 0),
                           .dk = lower_output(l, 1),
                           .dv = lower_output(l, 2)};
    attention_launch a = {.s = shape_of(l)};
    if (l->node->inputs > 6) {
        x.segments = lower_input(l, 6);
        a.segments = &x.segments;
    }
    if (by_cpu_kernel(l->traits))
        backward_cpu(l, &a, &x);
    else
        backward_gpu(l, &a, &x);
}

// Beside delta, the CPU kernel adds up dq in f32 rows of whole vectors, unless dq itself can hold
// the sums.
int64_t workspace_attention_backward(const lowering *l) {
    attention_shape s = shape_of(l);
    int64_t vec = l->traits->vec;
    brim_dtype dtype = l->graph->value[l->node->first_output].dtype;
    bool in_place = dtype == BRIM_F32 && s.dim % vec == 0;
    if (!by_cpu_kernel(l->traits) || in_place) return delta_bytes(&s);
    int64_t padded = (divide_up(s.dim, vec) + CPU_MOST_CHUNK - 1) * vec;
    return delta_bytes(&s) + row_bytes(&s) * padded;
}
