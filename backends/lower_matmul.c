// Matrix products: one matmul_shape from the operands' strides, then the backend's library or our
// own kernel.
#include "backends/lower_rules.h"

#include <string.h>

enum { MAX_ALIGNMENT = 256 };

// One operand as a stack of stored matrices.
typedef struct stored_matrix {
    int64_t rows, columns, row; // as stored: row-major, `row` elements from one row to the next
    bool transposed;            // stored as the transpose of what the op's attribute says
    int dims;                   // batch axes
    int64_t stride[BRIM_MAX_DIMS];
} stored_matrix;

typedef struct product {
    stored_matrix a, b, c;
    int dims; // batch axes
    int64_t extent[BRIM_MAX_DIMS];
    int64_t m, n, k;
    bool transpose_a, transpose_b; // of the stored matrices
} product;

// Reads the last two axes. The row stride of a single row, and the element stride of a single
// column, mean nothing.
static bool read_matrix(const operand *x, stored_matrix *out) {
    int last = x->shape.rank - 1;
    if (last < 1) return false;
    int64_t rows = x->shape.dim[last - 1], columns = x->shape.dim[last];
    int64_t row = x->stride[last - 1], column = x->stride[last];
    if ((column == 1 || columns == 1) && (row >= columns || rows == 1)) {
        *out = (stored_matrix){rows, columns, rows == 1 ? columns : row, false, last - 1, {0}};
        return true;
    }
    if ((row == 1 || rows == 1) && (column >= rows || columns == 1)) {
        *out = (stored_matrix){columns, rows, columns == 1 ? rows : column, true, last - 1, {0}};
        return true;
    }
    return false;
}

// Batch strides along the result's batch axes, 0 where the operand is broadcast.
static void read_batch(const operand *x, const product *p, stored_matrix *matrix) {
    int missing = p->dims - (x->shape.rank - 2);
    for (int d = 0; d < p->dims; d++) {
        int own = d - missing;
        matrix->stride[d] = own >= 0 && x->shape.dim[own] > 1 ? x->stride[own] : 0;
    }
}

static void drop_axis(product *p, int axis) {
    for (int d = axis; d + 1 < p->dims; d++) {
        p->extent[d] = p->extent[d + 1];
        p->a.stride[d] = p->a.stride[d + 1];
        p->b.stride[d] = p->b.stride[d + 1];
        p->c.stride[d] = p->c.stride[d + 1];
    }
    p->dims--;
}

static bool continues(const stored_matrix *x, int outer, int inner, int64_t extent) {
    return x->stride[outer] == x->stride[inner] * extent;
}

static void merge_batch_axes(product *p) {
    for (int d = p->dims - 1; d >= 0; d--)
        if (p->extent[d] == 1) drop_axis(p, d);
    for (int d = p->dims - 2; d >= 0; d--) {
        int64_t inner = p->extent[d + 1];
        if (!continues(&p->a, d, d + 1, inner) || !continues(&p->b, d, d + 1, inner) ||
            !continues(&p->c, d, d + 1, inner))
            continue;
        p->extent[d + 1] *= p->extent[d];
        drop_axis(p, d);
    }
}

// [B, T, K] x [K, N]: the batch of the left operand is more rows of one product.
static void merge_batch_into_rows(product *p) {
    while (p->dims) {
        int d = p->dims - 1;
        bool one_row = p->m == 1; // its row stride was only a guess
        if (p->b.stride[d] || p->transpose_a) return;
        if (one_row) {
            if (p->a.stride[d] < p->a.columns || p->c.stride[d] < p->c.columns) return;
            p->a.row = p->a.stride[d];
            p->c.row = p->c.stride[d];
        } else if (p->a.stride[d] != p->m * p->a.row || p->c.stride[d] != p->m * p->c.row) {
            return;
        }
        p->m *= p->extent[d];
        p->a.rows = p->c.rows = p->m;
        drop_axis(p, d);
    }
}

static bool read_product(const lowering *l, const operand *a, const operand *b, const operand *c,
                         product *p) {
    *p = (product){0};
    if (!read_matrix(a, &p->a) || !read_matrix(b, &p->b) || !read_matrix(c, &p->c)) return false;
    int last = c->shape.rank - 1;
    p->m = c->shape.dim[last - 1];
    p->n = c->shape.dim[last];
    p->transpose_a = l->node->attr.matmul.transpose_a != p->a.transposed;
    p->transpose_b = l->node->attr.matmul.transpose_b != p->b.transposed;
    p->k = p->transpose_a ? p->a.rows : p->a.columns;
    if (p->c.transposed) return false;
    p->dims = c->shape.rank - 2;
    for (int d = 0; d < p->dims; d++) p->extent[d] = c->shape.dim[d];
    read_batch(a, p, &p->a);
    read_batch(b, p, &p->b);
    read_batch(c, p, &p->c);
    merge_batch_axes(p);
    merge_batch_into_rows(p);
    return p->dims <= 1;
}

// The largest power of two that divides x, and no more than most.
static int64_t power_of_two_in(int64_t x, int64_t most) {
    while (x % most) most /= 2;
    return most;
}

// What is certain about the matrices' addresses before anything is placed: storages are aligned,
// views into them and the steps of a batch less so.
static int32_t alignment_of(const lowering *l, const operand *x, value_id id,
                            int64_t batch_stride) {
    int64_t element = (int64_t)brim_dtype_bytes(x->dtype);
    int64_t most = l->traits->alignment < MAX_ALIGNMENT ? l->traits->alignment : MAX_ALIGNMENT;
    most = power_of_two_in(l->layout->of[id].offset * element, most > 0 ? most : 1);
    return (int32_t)power_of_two_in(batch_stride * element, most);
}

// Storages are placed at multiples of the device's alignment: what an offset leaves of that is the
// same before and after.
int32_t product_alignment(const lowering *l, const operand *const *operands, int count) {
    int64_t most = l->traits->alignment < MAX_ALIGNMENT ? l->traits->alignment : MAX_ALIGNMENT;
    if (most < 1) most = 1;
    for (int i = 0; i < count; i++) most = power_of_two_in(operands[i]->offset, most);
    return (int32_t)most;
}

static matmul_shape shape_of(const lowering *l, const product *p, const operand *a,
                             const operand *b, const operand *c) {
    bool batched = p->dims == 1;
    matmul_shape s = {.in = a->dtype,
                      .out = c->dtype,
                      .m = p->m,
                      .n = p->n,
                      .k = p->k,
                      .batch = batched ? p->extent[0] : 1,
                      .transpose_a = p->transpose_a,
                      .transpose_b = p->transpose_b,
                      .row_a = p->a.row,
                      .row_b = p->b.row,
                      .row_c = p->c.row,
                      .batch_a = batched ? p->a.stride[0] : 0,
                      .batch_b = batched ? p->b.stride[0] : 0,
                      .batch_c = batched ? p->c.stride[0] : 0};
    const graph_node *n = l->node;
    int32_t each[] = {alignment_of(l, a, n->input[0], s.batch_a),
                      alignment_of(l, b, n->input[1], s.batch_b),
                      alignment_of(l, c, n->first_output, s.batch_c)};
    s.alignment = each[0];
    for (int i = 1; i < 3; i++)
        if (each[i] < s.alignment) s.alignment = each[i];
    return s;
}

static bool describe(const lowering *l, operand x[3], matmul_shape *out) {
    product p;
    x[0] = lower_input(l, 0);
    x[1] = lower_input(l, 1);
    x[2] = lower_output(l, 0);
    if (x[0].dtype != x[1].dtype) {
        brim_fail(l->err, BRIM_GRAPH, "operands are %s and %s; one dtype is needed",
                  brim_dtype_name(x[0].dtype), brim_dtype_name(x[1].dtype));
        return false;
    }
    if (!read_product(l, &x[0], &x[1], &x[2], &p)) {
        char a[80], b[80], c[80];
        brim_fail(l->err, BRIM_GRAPH,
                  "operands %s and %s do not lie as one batch of matrices each (result %s)",
                  shape_print(&x[0].shape, a, sizeof a), shape_print(&x[1].shape, b, sizeof b),
                  shape_print(&x[2].shape, c, sizeof c));
        return false;
    }
    *out = shape_of(l, &p, &x[0], &x[1], &x[2]);
    return true;
}

int64_t workspace_product(const lowering *l, const matmul_shape *s) {
    int64_t bytes = 0;
    if (!l->backend->matmul_native(l->device, s)) return workspace_matmul_kernel(l, s);
    l->backend->matmul_workspace(l->device, s, &bytes, l->err);
    return bytes;
}

void lower_product(lowering *l, const matmul_shape *s, const operand *a, const operand *b,
                   const operand *c, byte_range workspace) {
    if (!l->backend->matmul_native(l->device, s)) {
        lower_matmul_kernel(l, s, a, b, c, workspace);
        return;
    }
    matmul_record r = {*s, a->offset, b->offset, c->offset, workspace.offset, workspace.bytes};
    lower_matmul_record(l, &r, a, b, c);
}

int64_t workspace_matmul(const lowering *l) {
    operand x[3];
    matmul_shape s;
    return describe(l, x, &s) ? workspace_product(l, &s) : 0;
}

void lower_matmul(lowering *l) {
    operand x[3];
    matmul_shape s;
    if (describe(l, x, &s)) lower_product(l, &s, &x[0], &x[1], &x[2], lower_workspace(l));
}
