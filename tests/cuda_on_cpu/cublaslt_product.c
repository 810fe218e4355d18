// The product itself, on one core: op(A) and op(B) are unpacked to f32 panels, tiles of D are
// summed in registers.
//
// An element's sum is in f32 and in an order that the algorithm alone fixes: along k, chunk by
// chunk and part by part. Tiles cut m and n only. Products and sums are rounded one by one on every
// CPU
// (-ffp-contract=off): the wider registers of the AVX2 body change no bit.
#include <stdlib.h>
#include <string.h>
#include "core/half.h"
#include "tests/cuda_on_cpu/cublaslt_parts.h"

enum { LANES = 8, TILE_M = 2 * LANES, TILE_N = 6, BLOCK_N = 16 * TILE_N };

#define INLINE static inline __attribute__((always_inline))

// ---- elements -----------------------------------------------------------------------------------

INLINE float load(element_type type, const void *x, int64_t at) {
    if (type == ELEMENT_F32) return ((const float *)x)[at];
    uint16_t bits = ((const uint16_t *)x)[at];
    return type == ELEMENT_F16 ? f16_to_f32(bits) : bf16_to_f32(bits);
}

INLINE void store(element_type type, void *x, int64_t at, float value) {
    if (type == ELEMENT_F32)
        ((float *)x)[at] = value;
    else
        ((uint16_t *)x)[at] = type == ELEMENT_F16 ? f16_from_f32(value) : bf16_from_f32(value);
}

// ---- panels -------------------------------------------------------------------------------------

// An operand seen from the sums: element (i, k) lies at i * step + k * step_k.
typedef struct operand {
    element_type type;
    const char *data;
    int64_t extent, step, step_k;
} operand;

// Elements [first, first + width) of each k side by side; zeros behind the operand's end.
INLINE void pack_as(element_type type, const operand *x, int64_t first, int64_t width, int64_t k,
                    float *panel) {
    int64_t filled = x->extent - first < width ? x->extent - first : width;
    if (filled < width) memset(panel, 0, (size_t)(width * k) * sizeof *panel);
    const char *at = x->data + first * x->step * (type == ELEMENT_F32 ? 4 : 2);
    if (x->step_k == 1)
        for (int64_t i = 0; i < filled; i++)
            for (int64_t l = 0; l < k; l++) panel[l * width + i] = load(type, at, i * x->step + l);
    else
        for (int64_t l = 0; l < k; l++)
            for (int64_t i = 0; i < filled; i++)
                panel[l * width + i] = load(type, at, i * x->step + l * x->step_k);
}

static void pack_panel(const operand *x, int64_t first, int64_t width, int64_t k, float *panel) {
    if (x->type == ELEMENT_F32)
        pack_as(ELEMENT_F32, x, first, width, k, panel);
    else if (x->type == ELEMENT_F16)
        pack_as(ELEMENT_F16, x, first, width, k, panel);
    else
        pack_as(ELEMENT_BF16, x, first, width, k, panel);
}

static void pack(const operand *x, int64_t begin, int64_t end, int64_t width, int64_t k,
                 float *panels) {
    for (int64_t first = begin; first < end; first += width, panels += width * k)
        pack_panel(x, first, width, k, panels);
}

// ---- a tile -------------------------------------------------------------------------------------

typedef float lanes __attribute__((vector_size(LANES * sizeof(float))));
typedef void add_products(const float *a, const float *b, int64_t k, float total[TILE_N][TILE_M]);

// total += the sum, from zero, of k products each.
INLINE void add_products_body(const float *a, const float *b, int64_t k,
                              float total[TILE_N][TILE_M]) {
    lanes sum[TILE_N][2] = {{{0}}};
    for (; k > 0; k--, a += TILE_M, b += TILE_N) {
        lanes low, high;
        memcpy(&low, a, sizeof low);
        memcpy(&high, a + LANES, sizeof high);
#pragma GCC unroll 6
        for (int j = 0; j < TILE_N; j++) {
            sum[j][0] += low * b[j];
            sum[j][1] += high * b[j];
        }
    }
#pragma GCC unroll 6
    for (int j = 0; j < TILE_N; j++) {
        lanes before[2];
        memcpy(before, total[j], sizeof before);
        before[0] += sum[j][0];
        before[1] += sum[j][1];
        memcpy(total[j], before, sizeof before);
    }
}

static void add_products_anywhere(const float *a, const float *b, int64_t k,
                                  float total[TILE_N][TILE_M]) {
    add_products_body(a, b, k, total);
}

#ifdef __x86_64__
__attribute__((target("avx2"))) static void
add_products_avx2(const float *a, const float *b, int64_t k, float total[TILE_N][TILE_M]) {
    add_products_body(a, b, k, total);
}
#endif

static add_products *best_add_products(void) {
#ifdef __x86_64__
    if (__builtin_cpu_supports("avx2")) return add_products_avx2;
#endif
    return add_products_anywhere;
}

// ---- where sums go ------------------------------------------------------------------------------

typedef struct sink {
    element_type type;
    char *data;
    int64_t ld;
    const void *c; // NULL: sums are stored as they are
    int64_t ld_c;
    float alpha, beta;
} sink;

// D = alpha sum + beta C, rounded once; C is not read where beta is 0.
static float result_of(const sink *out, float sum, int64_t i, int64_t j) {
    float value = out->alpha * sum;
    return out->beta == 0 ? value : value + out->beta * load(out->type, out->c, i + j * out->ld_c);
}

static void put_tile(const sink *out, float total[TILE_N][TILE_M], int64_t i0, int64_t rows,
                     int64_t j0, int64_t columns) {
    for (int64_t j = 0; j < columns; j++)
        for (int64_t i = 0; i < rows; i++)
            store(out->type, out->data, i0 + i + (j0 + j) * out->ld,
                  result_of(out, total[j][i], i0 + i, j0 + j));
}

// ---- a matrix of the batch ----------------------------------------------------------------------

typedef struct scratch {
    float *a, *b; // op(A) in panels of TILE_M rows, a block of op(B) in panels of TILE_N columns
} scratch;

static int64_t round_up(int64_t x, int64_t multiple) {
    return (x + multiple - 1) / multiple * multiple;
}

static int64_t at_most(int64_t x, int64_t most) {
    return x < most ? x : most;
}

// Sums over [begin, end) of k, for the columns in s->b.
static void multiply_block(const lt_product *p, const scratch *s, int64_t begin, int64_t end,
                           int64_t j0, const sink *out) {
    const lt_problem *q = &p->problem;
    int64_t chunk = p->algorithm.chunk ? p->algorithm.chunk : end - begin;
    int64_t j1 = at_most(j0 + BLOCK_N, q->n);
    add_products *add = best_add_products();
    for (int64_t i = 0; i < q->m; i += TILE_M)
        for (int64_t j = j0; j < j1; j += TILE_N) {
            float total[TILE_N][TILE_M] = {{0}};
            const float *a = s->a + i * q->k, *b = s->b + (j - j0) * q->k;
            for (int64_t k = begin; k < end; k += chunk)
                add(a + k * TILE_M, b + k * TILE_N, at_most(chunk, end - k), total);
            put_tile(out, total, i, at_most(TILE_M, q->m - i), j, at_most(TILE_N, j1 - j));
        }
}

static operand operand_of(const lt_product *p, int matrix, int64_t batch) {
    const lt_layout *x = &p->problem.matrix[matrix];
    int32_t op = matrix == MATRIX_A ? p->problem.operation.op_a : p->problem.operation.op_b;
    bool rows_first = (op == CUBLAS_OP_N) == (matrix == MATRIX_A); // steps along m or n are rows
    return (operand){.type = element_type_of(x),
                     .data = (const char *)(uintptr_t)p->matrix[matrix] +
                             batch * x->batch_stride * element_bytes(x),
                     .extent = matrix == MATRIX_A ? p->problem.m : p->problem.n,
                     .step = rows_first ? 1 : x->ld,
                     .step_k = rows_first ? x->ld : 1};
}

static sink final_sink(const lt_product *p, int64_t batch) {
    const lt_layout *c = &p->problem.matrix[MATRIX_C], *d = &p->problem.matrix[MATRIX_D];
    return (sink){.type = element_type_of(d),
                  .data = (char *)(uintptr_t)p->matrix[MATRIX_D] +
                          batch * d->batch_stride * element_bytes(d),
                  .ld = d->ld,
                  .c = (const char *)(uintptr_t)p->matrix[MATRIX_C] +
                       batch * c->batch_stride * element_bytes(c),
                  .ld_c = c->ld,
                  .alpha = p->alpha,
                  .beta = p->beta};
}

// A part of k has a dense matrix of its own for each matrix of the batch.
static sink part_sink(const lt_product *p, int64_t batch, int64_t part) {
    const lt_problem *q = &p->problem;
    bool f32 = p->algorithm.reduction == CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE;
    const lt_layout *d = &q->matrix[MATRIX_D];
    int64_t bytes = q->m * q->n * (f32 ? 4 : element_bytes(d));
    return (sink){.type = f32 ? ELEMENT_F32 : element_type_of(d),
                  .data = (char *)(uintptr_t)p->workspace + (part * q->batch + batch) * bytes,
                  .ld = q->m,
                  .alpha = 1};
}

static void multiply_matrix(const lt_product *p, const scratch *s, int64_t batch) {
    const lt_problem *q = &p->problem;
    int64_t parts = p->algorithm.parts;
    operand a = operand_of(p, MATRIX_A, batch), b = operand_of(p, MATRIX_B, batch);
    if (batch == 0 || q->matrix[MATRIX_A].batch_stride) pack(&a, 0, q->m, TILE_M, q->k, s->a);
    for (int64_t j = 0; j < q->n; j += BLOCK_N) {
        pack(&b, j, at_most(j + BLOCK_N, q->n), TILE_N, q->k, s->b);
        for (int64_t part = 0; part < parts; part++) {
            sink out = parts > 1 ? part_sink(p, batch, part) : final_sink(p, batch);
            multiply_block(p, s, q->k * part / parts, q->k * (part + 1) / parts, j, &out);
        }
    }
}

static void add_parts(const lt_product *p, int64_t batch) {
    const lt_problem *q = &p->problem;
    sink out = final_sink(p, batch), from[MAX_PARTS];
    for (int64_t part = 0; part < p->algorithm.parts; part++)
        from[part] = part_sink(p, batch, part);
    for (int64_t j = 0; j < q->n; j++)
        for (int64_t i = 0; i < q->m; i++) {
            float sum = 0;
            for (int64_t part = 0; part < p->algorithm.parts; part++)
                sum += load(from[part].type, from[part].data, i + j * from[part].ld);
            store(out.type, out.data, i + j * out.ld, result_of(&out, sum, i, j));
        }
}

// ---- the work -----------------------------------------------------------------------------------

static void *allocate(int64_t rows, int64_t k) {
    size_t bytes;
    void *x = NULL;
    if (!__builtin_mul_overflow((size_t)(rows * k), sizeof(float), &bytes)) x = malloc(bytes);
    if (x) return x;
    cuda_on_cpu_complain("cublasLtMatmul", "no memory on the host for a product's panels");
    abort(); // of the test's machine, at a time when nobody waits for a status
}

void run_product(void *product) {
    const lt_product *p = product;
    const lt_problem *q = &p->problem;
    if (!access_operands(p)) return;
    // All of its workspace is the product's: whoever left data there finds NaN in every type.
    if (p->algorithm.parts > 1) memset((void *)(uintptr_t)p->workspace, 0xff, p->workspace_bytes);
    scratch s = {allocate(round_up(q->m, TILE_M), q->k),
                 allocate(round_up(at_most(q->n, BLOCK_N), TILE_N), q->k)};
    for (int64_t batch = 0; batch < q->batch; batch++) {
        multiply_matrix(p, &s, batch);
        if (p->algorithm.parts > 1) add_parts(p, batch);
    }
    free(s.a), free(s.b);
}
