// The memory of a product: which bytes its matrices are, and whether pointers suit them.
#include <stdlib.h>
#include "tests/cuda_on_cpu/cublaslt_parts.h"

// ---- the bytes of a matrix ----------------------------------------------------------------------

// Matrices of a batch that are all the same one count once.
static int64_t distinct(const lt_layout *x) {
    return x->batch_stride ? x->batch : 1;
}

// From the first byte to the end of the last; false where that is no number.
static bool extent_of(const lt_layout *x, size_t *bytes) {
    int64_t last_matrix, last_column, elements, total;
    if (__builtin_mul_overflow(distinct(x) - 1, x->batch_stride, &last_matrix) ||
        __builtin_mul_overflow((int64_t)x->columns - 1, x->ld, &last_column) ||
        __builtin_add_overflow(last_matrix, last_column, &elements) ||
        __builtin_add_overflow(elements, (int64_t)x->rows, &elements) ||
        __builtin_mul_overflow(elements, element_bytes(x), &total))
        return false;
    *bytes = (size_t)total;
    return true;
}

// Runs of bytes without a gap: columns, or whole matrices where no column has a gap behind it.
typedef struct runs {
    int64_t matrices, matrix_step, columns, column_step, bytes; // steps in bytes
} runs;

static runs runs_of(const lt_layout *x) {
    int64_t element = element_bytes(x), rows = (int64_t)x->rows, columns = (int64_t)x->columns;
    if (x->ld != rows && columns > 1)
        return (runs){distinct(x), x->batch_stride * element, columns, x->ld * element,
                      rows * element};
    return (runs){distinct(x), x->batch_stride * element, 1, 0, rows * columns * element};
}

static bool access_matrix(CUdeviceptr begin, const lt_layout *x, bool writes, const char *what) {
    runs r = runs_of(x);
    for (int64_t i = 0; i < r.matrices; i++)
        for (int64_t j = 0; j < r.columns; j++)
            if (!cuda_on_cpu_access(begin + (CUdeviceptr)(i * r.matrix_step + j * r.column_step),
                                    (size_t)r.bytes, writes, what))
                return false;
    return true;
}

bool access_operands(const lt_product *p) {
    static const char *const what[MATRICES] = {"A of a product", "B of a product", "C of a product",
                                               "D of a product"};
    for (int i = 0; i < MATRICES; i++) {
        if (i == MATRIX_C && p->beta == 0) continue;
        if (!access_matrix(p->matrix[i], &p->problem.matrix[i], i == MATRIX_D, what[i]))
            return false;
    }
    return !p->algorithm.workspace_bytes ||
           cuda_on_cpu_access(p->workspace, p->workspace_bytes, true, "workspace of a product");
}

// ---- overlaps -----------------------------------------------------------------------------------

typedef struct run {
    uintptr_t begin;
    int owner;
} run;

static int by_begin(const void *a, const void *b) {
    uintptr_t x = ((const run *)a)->begin, y = ((const run *)b)->begin;
    return x < y ? -1 : x > y;
}

static int64_t list_runs(CUdeviceptr begin, const runs *r, int owner, run *out) {
    int64_t count = 0;
    for (int64_t i = 0; i < r->matrices; i++)
        for (int64_t j = 0; j < r->columns; j++)
            out[count++] =
                (run){begin + (uintptr_t)(i * r->matrix_step + j * r->column_step), owner};
    return count;
}

// Whether a run of D meets an earlier one of D or of x, whose runs may meet each other.
static bool runs_meet(const run *list, int64_t count, const int64_t bytes[2]) {
    uintptr_t end[2] = {0, 0};
    for (int64_t i = 0; i < count; i++) {
        int owner = list[i].owner;
        if (list[i].begin < end[0] || (owner == 0 && list[i].begin < end[1])) return true;
        uintptr_t run_end = list[i].begin + (uintptr_t)bytes[owner];
        if (run_end > end[owner]) end[owner] = run_end;
    }
    return false;
}

// Whether D has an element twice, or, with x, one that is x's too: byte for byte, since matrices
// may lie between each other's columns.
static bool meet(CUdeviceptr d, const lt_layout *layout_d, CUdeviceptr x, const lt_layout *layout_x,
                 bool *out) {
    runs r[2] = {runs_of(layout_d), layout_x ? runs_of(layout_x) : (runs){0}};
    int64_t most = r[0].matrices * r[0].columns + r[1].matrices * r[1].columns;
    run *list = malloc((size_t)most * sizeof *list);
    if (!list) return false;
    int64_t count = list_runs(d, &r[0], 0, list);
    count += list_runs(x, &r[1], 1, list + count);
    qsort(list, (size_t)count, sizeof *list, by_begin);
    *out = runs_meet(list, count, (int64_t[]){r[0].bytes, r[1].bytes});
    free(list);
    return true;
}

// Matrices of a batch one behind the other, or between each other's columns.
static bool surely_apart(const lt_layout *x) {
    int64_t rows = (int64_t)x->rows;
    return x->batch == 1 || x->batch_stride >= ((int64_t)x->columns - 1) * x->ld + rows ||
           (x->batch_stride >= rows && (x->batch - 1) * x->batch_stride + rows <= x->ld);
}

static cublasStatus_t check_overlaps(const char *call, const lt_product *p,
                                     const size_t extent[MATRICES]) {
    const lt_layout *layout = p->problem.matrix, *d = &layout[MATRIX_D];
    CUdeviceptr begin = p->matrix[MATRIX_D], end = begin + extent[MATRIX_D];
    bool overlap = d->batch > 1 && d->batch_stride == 0;
    if (!overlap && !surely_apart(d) && !meet(begin, d, 0, NULL, &overlap))
        return REFUSE(call, CUBLAS_STATUS_ALLOC_FAILED, "no memory");
    if (overlap)
        return REFUSE(call, CUBLAS_STATUS_INVALID_VALUE, "matrices of D overlap each other");
    for (int i = 0; i < MATRIX_D; i++) {
        if (i == MATRIX_C && p->matrix[i] == begin) continue;
        if (p->matrix[i] >= end || p->matrix[i] + extent[i] <= begin) continue;
        if (!meet(begin, d, p->matrix[i], &layout[i], &overlap))
            return REFUSE(call, CUBLAS_STATUS_ALLOC_FAILED, "no memory");
        if (overlap)
            return REFUSE(call, CUBLAS_STATUS_INVALID_VALUE, "%s and D overlap", matrix_name(i));
    }
    return CUBLAS_STATUS_SUCCESS;
}

// ---- pointers -----------------------------------------------------------------------------------

static cublasStatus_t check_pointer(const char *call, const lt_product *p, int i, size_t bytes) {
    const lt_layout *x = &p->problem.matrix[i];
    int64_t promised = (int64_t)1 << p->algorithm.alignment[i];
    const char *name = matrix_name(i);
    if (p->matrix[i] % (CUdeviceptr)element_bytes(x))
        return REFUSE(call, CUBLAS_STATUS_INVALID_VALUE,
                      "%s at 0x%llx: its elements have %lld bytes", name,
                      (unsigned long long)p->matrix[i], (long long)element_bytes(x));
    if (!cuda_on_cpu_is_device(p->matrix[i], bytes))
        return REFUSE(call, CUBLAS_STATUS_INVALID_VALUE,
                      "%s: %zu bytes at 0x%llx are not in one piece of device memory", name, bytes,
                      (unsigned long long)p->matrix[i]);
    if (p->matrix[i] % (CUdeviceptr)promised)
        return REFUSE(call, CUBLAS_STATUS_NOT_SUPPORTED,
                      "%s at 0x%llx: the algorithm was chosen for %lld bytes of alignment", name,
                      (unsigned long long)p->matrix[i], (long long)promised);
    return CUBLAS_STATUS_SUCCESS;
}

static cublasStatus_t check_workspace(const char *call, const lt_product *p,
                                      const size_t extent[MATRICES]) {
    if (p->workspace_bytes < p->algorithm.workspace_bytes)
        return REFUSE(call, CUBLAS_STATUS_INVALID_VALUE,
                      "a workspace of %zu bytes, the algorithm needs %llu", p->workspace_bytes,
                      (unsigned long long)p->algorithm.workspace_bytes);
    if (!p->workspace_bytes) return CUBLAS_STATUS_SUCCESS;
    if (p->workspace % WORKSPACE_ALIGNMENT)
        return REFUSE(call, CUBLAS_STATUS_INVALID_VALUE,
                      "a workspace at 0x%llx: it must be aligned to %d bytes",
                      (unsigned long long)p->workspace, WORKSPACE_ALIGNMENT);
    if (!cuda_on_cpu_is_device(p->workspace, p->workspace_bytes))
        return REFUSE(call, CUBLAS_STATUS_INVALID_VALUE,
                      "workspace: %zu bytes at 0x%llx are not in one piece of device memory",
                      p->workspace_bytes, (unsigned long long)p->workspace);
    for (int i = 0; i < MATRICES; i++)
        if (p->matrix[i] < p->workspace + p->workspace_bytes &&
            p->workspace < p->matrix[i] + extent[i])
            return REFUSE(call, CUBLAS_STATUS_INVALID_VALUE, "%s and the workspace overlap",
                          matrix_name(i));
    return CUBLAS_STATUS_SUCCESS;
}

static bool same_layout(const lt_layout *x, const lt_layout *y) {
    return x->ld == y->ld && x->batch_stride == y->batch_stride; // the rest was compared before
}

cublasStatus_t check_operands(const char *call, const lt_product *p) {
    const lt_layout *layout = p->problem.matrix;
    size_t extent[MATRICES];
    cublasStatus_t status = CUBLAS_STATUS_SUCCESS;
    for (int i = 0; i < MATRICES && !status; i++) {
        if (!extent_of(&layout[i], &extent[i]))
            return REFUSE(call, CUBLAS_STATUS_INVALID_VALUE, "%s is larger than any memory",
                          matrix_name(i));
        status = check_pointer(call, p, i, extent[i]);
    }
    if (status) return status;
    if (p->matrix[MATRIX_C] == p->matrix[MATRIX_D] &&
        !same_layout(&layout[MATRIX_C], &layout[MATRIX_D]))
        return REFUSE(call, CUBLAS_STATUS_INVALID_VALUE,
                      "C and D are one matrix, and their layouts differ");
    status = check_overlaps(call, p, extent);
    return status ? status : check_workspace(call, p, extent);
}
