// Whether descriptors make a product that cuBLASLt serves.
#include "tests/cuda_on_cpu/cublaslt_parts.h"

const char *matrix_name(int matrix) {
    static const char *const name[MATRICES] = {"A", "B", "C", "D"};
    return name[matrix];
}

// ---- what only this stand-in lacks --------------------------------------------------------------

static cublasStatus_t check_operation(const char *call, const lt_operation *o) {
    const struct {
        const char *what;
        int32_t value, served;
    } only[] = {
        {"compute type", o->compute_type, CUBLAS_COMPUTE_32F},
        {"pointer mode", o->pointer_mode, CUBLASLT_POINTER_MODE_HOST},
        {"fill mode", o->fill_mode, CUBLAS_FILL_MODE_FULL},
        {"epilogue", (int32_t)o->epilogue, CUBLASLT_EPILOGUE_DEFAULT},
        {"transform of C", o->op_c, CUBLAS_OP_N},
    };
    for (size_t i = 0; i < sizeof only / sizeof *only; i++)
        if (only[i].value != only[i].served)
            return REFUSE(call, CUBLAS_STATUS_NOT_SUPPORTED, "%s %d is not served here, only %d",
                          only[i].what, only[i].value, only[i].served);
    const int32_t op[] = {o->op_a, o->op_b};
    for (int i = 0; i < 2; i++)
        if (op[i] != CUBLAS_OP_N && op[i] != CUBLAS_OP_T)
            return REFUSE(call, CUBLAS_STATUS_INVALID_VALUE,
                          "transform %d of %s is neither N nor T", op[i], matrix_name(i));
    return CUBLAS_STATUS_SUCCESS;
}

static cublasStatus_t check_layout(const char *call, const lt_layout *x, const char *name) {
    if (x->order != CUBLASLT_ORDER_COL || x->plane_offset || x->batch_mode)
        return REFUSE(call, CUBLAS_STATUS_NOT_SUPPORTED,
                      "%s: order %d, plane offset %lld, batch mode %u: only column-major matrices "
                      "with strides between them are served here",
                      name, x->order, (long long)x->plane_offset, x->batch_mode);
    if (x->ld < 0 || (uint64_t)x->ld < x->rows)
        return REFUSE(call, CUBLAS_STATUS_INVALID_VALUE,
                      "%s: its leading dimension %lld is less than its %llu rows", name,
                      (long long)x->ld, (unsigned long long)x->rows);
    if (x->batch < 1)
        return REFUSE(call, CUBLAS_STATUS_INVALID_VALUE, "%s: a batch of %d", name, x->batch);
    if (x->batch > 1 && x->batch_stride < 0)
        return REFUSE(call, CUBLAS_STATUS_INVALID_VALUE, "%s: batch stride %lld", name,
                      (long long)x->batch_stride);
    return CUBLAS_STATUS_SUCCESS;
}

// ---- what must fit ------------------------------------------------------------------------------

typedef struct extent {
    uint64_t rows, columns;
} extent;

static extent after(const lt_layout *x, int32_t op) {
    return op == CUBLAS_OP_N ? (extent){x->rows, x->columns} : (extent){x->columns, x->rows};
}

static cublasStatus_t check_extents(const char *call, const lt_problem *p) {
    const lt_layout *x = p->matrix;
    extent a = after(&x[MATRIX_A], p->operation.op_a), b = after(&x[MATRIX_B], p->operation.op_b);
    if (a.columns != b.rows)
        return REFUSE(call, CUBLAS_STATUS_INVALID_VALUE, "op(A) has %llu columns, op(B) %llu rows",
                      (unsigned long long)a.columns, (unsigned long long)b.rows);
    for (int i = MATRIX_C; i <= MATRIX_D; i++)
        if (x[i].rows != a.rows || x[i].columns != b.columns)
            return REFUSE(call, CUBLAS_STATUS_INVALID_VALUE,
                          "%s is %llu x %llu, the product %llu x %llu", matrix_name(i),
                          (unsigned long long)x[i].rows, (unsigned long long)x[i].columns,
                          (unsigned long long)a.rows, (unsigned long long)b.columns);
    for (int i = MATRIX_B; i <= MATRIX_D; i++)
        if (x[i].batch != x[MATRIX_A].batch)
            return REFUSE(call, CUBLAS_STATUS_INVALID_VALUE, "a batch of %d for %s, of %d for A",
                          x[i].batch, matrix_name(i), x[MATRIX_A].batch);
    if (x[MATRIX_C].type != x[MATRIX_D].type)
        return REFUSE(call, CUBLAS_STATUS_INVALID_VALUE, "C has type %u, D %u", x[MATRIX_C].type,
                      x[MATRIX_D].type);
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t read_problem(const char *call, cublasLtMatmulDesc_t held_operation,
                            const cublasLtMatrixLayout_t held[MATRICES], lt_problem *out) {
    static const char *const what[MATRICES] = {"a matrix layout (A)", "a matrix layout (B)",
                                               "a matrix layout (C)", "a matrix layout (D)"};
    *out = (lt_problem){0};
    const lt_operation *operation = find_operation(call, held_operation);
    if (!operation) return CUBLAS_STATUS_INVALID_VALUE;
    out->operation = *operation;
    cublasStatus_t status = check_operation(call, operation);
    for (int i = 0; i < MATRICES && !status; i++) {
        const lt_layout *layout = find_layout(call, held[i], what[i]);
        if (!layout) return CUBLAS_STATUS_INVALID_VALUE;
        out->matrix[i] = *layout;
        status = check_layout(call, layout, matrix_name(i));
    }
    if (!status) status = check_extents(call, out);
    if (status) return status;
    extent a = after(&out->matrix[MATRIX_A], operation->op_a);
    out->m = (int64_t)a.rows, out->k = (int64_t)a.columns;
    out->n = (int64_t)out->matrix[MATRIX_D].columns;
    out->batch = out->matrix[MATRIX_D].batch;
    return CUBLAS_STATUS_SUCCESS;
}

// ---- what the library serves --------------------------------------------------------------------

// The real types that go with CUBLAS_COMPUTE_32F and a scale of CUDA_R_32F, less 8-bit ones: from
// the table of cublasLtMatmul in https://docs.nvidia.com/cuda/cublas/#cublasltmatmul (XLA's
// gemm_rewriter.cc has the same list, supported_type_combinations). A and B are of one type, C and
// D, too; f32 is not rounded to 16 bits on the way out, and f16 and bf16 do not mix.
static const struct {
    cudaDataType_t in, out;
} served_types[] = {
    {CUDA_R_32F, CUDA_R_32F},   {CUDA_R_16F, CUDA_R_16F},  {CUDA_R_16F, CUDA_R_32F},
    {CUDA_R_16BF, CUDA_R_16BF}, {CUDA_R_16BF, CUDA_R_32F},
};

static bool served(uint32_t a, uint32_t b, uint32_t d) {
    for (size_t i = 0; i < sizeof served_types / sizeof *served_types; i++)
        if (served_types[i].in == a && served_types[i].in == b && served_types[i].out == d)
            return true;
    return false;
}

const char *why_not_served(const lt_problem *p) {
    const lt_layout *x = p->matrix;
    if (p->operation.scale_type != CUDA_R_32F)
        return "CUBLAS_COMPUTE_32F is scaled in CUDA_R_32F only";
    if (!served(x[MATRIX_A].type, x[MATRIX_B].type, x[MATRIX_D].type))
        return "the types of A, B and D do not go together";
    if (!p->m || !p->n || !p->k) return "a matrix is empty";
    for (int i = 0; i < MATRICES; i++)
        if (x[i].rows > INT32_MAX || x[i].columns > INT32_MAX)
            return "extents do not fit into 32 bits";
    return NULL;
}
