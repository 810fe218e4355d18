// The loss behind an output projection, with the logits of one chunk of classes at a time.
//
// Let there be T tokens of width D, V classes, and chunks of N of each row's V logits. The chunks
// are of classes and not of tokens, in both directions:
//
//   - Forward, a chunk of tokens would read the whole weight for each of them: for V = 150,000, D =
//     4,096 and 64 MiB of logits that is 1.2 GB for 111 tokens, as long as the product itself takes
//     on a card of 100 TFLOP/s and 860 GB/s. A chunk of classes reads its part of the weight once,
//     and x again (16 MB for 2,048 tokens). What it costs is that a row's sum is made of parts.
//   - Backward, the gradient of the weight needs all tokens: by chunks of classes it is one product
//     a chunk, written where it belongs. By chunks of tokens each would add V D f32 numbers to a
//     sum (16 V D bytes: 9.8 GB, 11 ms, for a chunk whose products take 4 ms). The gradient of x is
//     the one that is added up here: 16 T D bytes a chunk, beside three products of 2 T N D
//     operations: a third of their time for N = 1,000, 4% for N = 8,192. A product by itself and
//     then a sum, not one that accumulates, so that its bits are those of any other product of its
//     shape.
//
// The logits are made twice, 4 products in place of 3. Making the gradients in the forward pass
// would save that one, but holds the V D f32 numbers of the weight's from there on, and takes the
// gradients of the losses for known.
//
// Logits are f32, since nothing but the loss reads them; their gradient is in x's dtype, which the
// products with x and the weight need.
#include "backends/lower_rules.h"

#include "backends/lower_split.h"

enum { ALIGNMENT = 256 };

typedef struct head {
    lowering *l;
    operand x, weight; // [T, D], [V, D]
    int64_t chunk;
    bool measures;               // the products' workspace, and emits nothing
    int64_t used, product_bytes; // of the workspace
} head;

// A dense [.., columns] as a matrix.
static operand as_matrix(operand x) {
    int64_t columns = last_extent(&x.shape), rows = leading_elements(&x.shape);
    x.shape = (shape){.rank = 2, .dim = {rows, columns}};
    x.stride[0] = columns;
    x.stride[1] = 1;
    return x;
}

static head head_of(lowering *l, bool measures) {
    operand weight = lower_input(l, 1);
    int64_t chunk = l->node->attr.chunked_targets.chunk, classes = weight.shape.dim[0];
    return (head){.l = l,
                  .x = as_matrix(lower_input(l, 0)),
                  .weight = as_matrix(weight),
                  .chunk = chunk < classes ? chunk : classes,
                  .measures = measures};
}

// The next rows x columns of the workspace. Before planning, from its start.
static operand take(head *h, brim_dtype dtype, int64_t rows, int64_t columns) {
    int64_t alignment = h->l->traits->alignment > ALIGNMENT ? h->l->traits->alignment : ALIGNMENT;
    operand x = {.dtype = dtype, .shape = {.rank = 2, .dim = {rows, columns}}};
    x.stride[0] = columns;
    x.stride[1] = 1;
    x.offset = lower_workspace(h->l).offset + h->used;
    x.range =
        (byte_range){SPACE_DEVICE, x.offset, rows * columns * (int64_t)brim_dtype_bytes(dtype)};
    h->used += divide_up(x.range.bytes, alignment) * alignment;
    return x;
}

static operand rows_of(const operand *x, int64_t first, int64_t rows) {
    return lower_part(x, (int64_t[]){first, 0},
                      &(shape){.rank = 2, .dim = {rows, x->shape.dim[1]}});
}

static operand columns_of(const operand *x, int64_t columns) {
    return lower_part(x, (int64_t[]){0, 0}, &(shape){.rank = 2, .dim = {x->shape.dim[0], columns}});
}

// c = op(a) op(b)
static void product(head *h, operand a, bool transpose_a, operand b, bool transpose_b, operand c) {
    matmul_shape s = {.in = a.dtype,
                      .out = c.dtype,
                      .m = c.shape.dim[0],
                      .n = c.shape.dim[1],
                      .k = a.shape.dim[transpose_a ? 0 : 1],
                      .batch = 1,
                      .transpose_a = transpose_a,
                      .transpose_b = transpose_b,
                      .row_a = a.stride[0],
                      .row_b = b.stride[0],
                      .row_c = c.stride[0]};
    s.alignment = product_alignment(h->l, (const operand *[]){&a, &b, &c}, 3);
    int64_t bytes = workspace_product(h->l, &s);
    if (h->measures)
        h->product_bytes = bytes > h->product_bytes ? bytes : h->product_bytes;
    else
        lower_product(
            h->l, &s, &a, &b, &c,
            (byte_range){SPACE_DEVICE, bytes ? lower_workspace(h->l).offset + h->used : 0, bytes});
}

static const char *name_of(const operand *x) {
    return brim_dtype_name(x->dtype);
}

static int aligned(const head *h, const operand *x, const operand *y) {
    return vectors_aligned(h->l->traits, (const operand *const[]){x, y}, 2, x->stride[0]);
}

// ---- forward ------------------------------------------------------------------------------------

static void sum_part(head *h, const operand *logits, const operand *target, const operand *top,
                     const operand *sum, const operand *hit, int64_t first) {
    lowering *l = h->l;
    int64_t rows = logits->shape.dim[0], classes = logits->shape.dim[1];
    row_split split = split_rows(l->traits, rows, classes);
    int kernel = lower_kernel(l, "cross_entropy", "cross_entropy_part", split.group,
                              "-DTX=f32 -DALIGNED=%d", aligned(h, logits, logits));
    LOWER_LAUNCH(l, kernel, split.groups, 1, 1, arg_read(logits), arg_read(target), arg_write(top),
                 arg_write(sum), arg_write(hit), arg_i32(first), arg_i32(logits->stride[0]),
                 arg_i64(rows), arg_i32(classes), arg_i32(split.per));
}

static void join_parts(head *h, const operand *top, const operand *sum, const operand *hit,
                       const operand *target) {
    lowering *l = h->l;
    operand loss = lower_output(l, 0), logsumexp = lower_output(l, 1);
    int64_t rows = h->x.shape.dim[0];
    row_split split = split_elements(l->traits, rows);
    int kernel =
        lower_kernel(l, "cross_entropy_join", "cross_entropy_join", split.group, "-DALIGNED=0");
    LOWER_LAUNCH(l, kernel, split.groups, 1, 1, arg_read(top), arg_read(sum), arg_read(hit),
                 arg_read(target), arg_write(&loss), arg_write(&logsumexp),
                 arg_i32(l->node->attr.chunked_targets.ignore), arg_i32(top->shape.dim[0]),
                 arg_i32(h->weight.shape.dim[0]), arg_i64(rows), arg_i32(split.per));
}

static void forward(head *h) {
    int64_t tokens = h->x.shape.dim[0], classes = h->weight.shape.dim[0];
    int64_t chunks = divide_up(classes, h->chunk);
    operand target = lower_input(h->l, 2);
    operand all = take(h, BRIM_F32, tokens, h->chunk);
    operand top = take(h, BRIM_F32, chunks, tokens), sum = take(h, BRIM_F32, chunks, tokens);
    operand hit = take(h, BRIM_F32, 1, tokens);
    for (int64_t i = 0, first = 0; first < classes; i++, first += h->chunk) {
        int64_t n = first + h->chunk < classes ? h->chunk : classes - first;
        operand logits = columns_of(&all, n);
        product(h, h->x, false, rows_of(&h->weight, first, n), true, logits);
        operand part_top = rows_of(&top, i, 1), part_sum = rows_of(&sum, i, 1);
        if (!h->measures) sum_part(h, &logits, &target, &part_top, &part_sum, &hit, first);
    }
    if (!h->measures) join_parts(h, &top, &sum, &hit, &target);
}

// ---- backward -----------------------------------------------------------------------------------

static void gradient_of_logits(head *h, const operand *logits, const operand *gradient,
                               int64_t first) {
    lowering *l = h->l;
    operand target = lower_input(l, 2), logsumexp = lower_input(l, 3), dy = lower_input(l, 4);
    int64_t rows = logits->shape.dim[0], n = logits->shape.dim[1];
    row_split split = split_rows(l->traits, rows, n);
    int kernel = lower_kernel(l, "cross_entropy_backward", "cross_entropy_backward", split.group,
                              "-DTX=%s -DTDX=%s -DALIGNED=%d", name_of(logits), name_of(gradient),
                              aligned(h, logits, gradient));
    LOWER_LAUNCH(l, kernel, split.groups, 1, 1, arg_read(logits), arg_read(&target),
                 arg_read(&logsumexp), arg_read(&dy), arg_write(gradient),
                 arg_i32(l->node->attr.chunked_targets.ignore), arg_i32(first),
                 arg_i32(h->weight.shape.dim[0]), arg_i32(logits->stride[0]), arg_i64(rows),
                 arg_i32(n), arg_i32(split.per));
}

// to = a + b, added in f32.
static void add(head *h, const operand *a, const operand *b, const operand *to) {
    const chain_step step[] = {{.op = OP_ADD, .dtype = BRIM_F32, .operand = {~0, ~1}},
                               {.op = OP_CAST, .dtype = to->dtype, .operand = {0}}};
    bool narrow = to->dtype != BRIM_F32;
    chain c = {(int16_t)(narrow ? 2 : 1), 1, step, (const int16_t[]){(int16_t)narrow}};
    operand inputs[] = {*a, *b};
    lower_chain(h->l, &c, inputs, 2, to);
}

static void backward(head *h) {
    int64_t tokens = h->x.shape.dim[0], width = h->x.shape.dim[1];
    int64_t classes = h->weight.shape.dim[0];
    bool one = h->chunk == classes, low = h->x.dtype != BRIM_F32;
    operand dweight = as_matrix(lower_output(h->l, 0)), dx = as_matrix(lower_output(h->l, 1));
    operand all = take(h, BRIM_F32, tokens, h->chunk), gradients = all, sum = dx, part = dx;
    if (low) gradients = take(h, h->x.dtype, tokens, h->chunk);
    if (low && !one) sum = take(h, BRIM_F32, tokens, width);
    if (!one) part = take(h, BRIM_F32, tokens, width);
    for (int64_t first = 0; first < classes; first += h->chunk) {
        bool last = first + h->chunk >= classes;
        int64_t n = last ? classes - first : h->chunk;
        operand logits = columns_of(&all, n), gradient = columns_of(&gradients, n);
        operand weight = rows_of(&h->weight, first, n);
        product(h, h->x, false, weight, true, logits);
        if (!h->measures) gradient_of_logits(h, &logits, &gradient, first);
        product(h, gradient, true, h->x, false, rows_of(&dweight, first, n));
        product(h, gradient, false, weight, false, first ? part : sum);
        if (first && !h->measures) add(h, &sum, &part, last ? &dx : &sum);
    }
}

// ---- rules --------------------------------------------------------------------------------------

// What `emit` takes for itself, and behind that the most that one of its products wants.
static int64_t measured(const lowering *l, void (*emit)(head *h)) {
    lowering before_planning = *l;
    head h = head_of(&before_planning, true);
    emit(&h);
    return h.used + h.product_bytes;
}

void lower_linear_cross_entropy(lowering *l) {
    head h = head_of(l, false);
    forward(&h);
}
int64_t workspace_linear_cross_entropy(const lowering *l) {
    return measured(l, forward);
}

void lower_linear_cross_entropy_backward(lowering *l) {
    head h = head_of(l, false);
    backward(&h);
}
int64_t workspace_linear_cross_entropy_backward(const lowering *l) {
    return measured(l, backward);
}
