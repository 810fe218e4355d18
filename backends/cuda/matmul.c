#include "backends/cuda/matmul.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "backends/cuda/device.h"
#include "core/alloc.h"

enum { HEURISTIC_RESULTS = 8 };
static const uint64_t max_workspace_bytes = (uint64_t)32 << 20;

// ---- the library --------------------------------------------------------------------------------

static const dynlib_symbol symbols[] = {
#define X(name) DYNLIB_REQUIRED(cublaslt_library, name),
    CUBLASLT_FUNCTIONS(X)
#undef X
};

static bool check(const cublaslt_library *lt, cublasStatus_t status, const char *call,
                  brim_error *err) {
    if (status == CUBLAS_STATUS_SUCCESS) return true;
    brim_fail(err, status == CUBLAS_STATUS_ALLOC_FAILED ? BRIM_MEMORY : BRIM_DEVICE,
              "CUDA: %s failed with %s (%d)", call, lt->cublasLtGetStatusName(status), (int)status);
    return false;
}
#define CHECK(m, call, ...) check(&(m)->lt, (m)->lt.call(__VA_ARGS__), #call, err)

// One file: opened, and a handle made. False with the reason in err.
static bool try_library(cuda_matmul *m, const char *name, brim_error *err) {
    const char *const names[] = {name, NULL};
    const dynlib_table table = {"cuBLASLt", names, symbols, sizeof symbols / sizeof *symbols};
    if (!dynlib_open(&m->file, &table, &m->lt, err)) return false;
    m->file.name = name;
    cublasLtHandle_t handle = NULL;
    if (CHECK(m, cublasLtCreate, &handle)) {
        m->handle = handle;
        size_t version = m->lt.cublasLtGetVersion();
        snprintf(m->name, sizeof m->name, "cuBLASLt %zu.%zu.%zu", version / 10000,
                 version / 100 % 100, version % 100);
        return true;
    }
    m->file = (dynlib){0};
    return false;
}

void cuda_matmul_open(backend_device *d, int driver_version, brim_error *err) {
    static const char *const newest[] = {"libcublasLt.so.13", "libcublasLt.so.12", NULL};
    static const char *const older[] = {"libcublasLt.so.12", "libcublasLt.so.13", NULL};
    cuda_matmul *m = &d->matmul;
    *m = (cuda_matmul){0};
    if (d->settings.own_products) {
        snprintf(m->why, sizeof m->why, "switched off");
        return;
    }
    const char *const *name = driver_version < 13000 ? older : newest;
    for (; *name && !m->handle; name++) {
        brim_error problem = {0};
        if (try_library(m, *name, &problem)) return;
        // Without it products would have other bits, and nobody would be told why.
        if (problem.status == BRIM_MEMORY) *err = problem;
        if (failed(err)) return;
        size_t length = strlen(m->why);
        snprintf(m->why + length, sizeof m->why - length, "%s%.120s", length ? "; " : "",
                 problem.text);
    }
}

// The file stays loaded, as the driver does.
void cuda_matmul_close(backend_device *d) {
    cuda_matmul *m = &d->matmul;
    if (m->handle) m->lt.cublasLtDestroy(m->handle);
    free(m->choice);
    *m = (cuda_matmul){0};
}

// ---- a product in the library's terms -----------------------------------------------------------

static cudaDataType data_type(brim_dtype dtype) {
    return dtype == BRIM_F16 ? CUDA_R_16F : dtype == BRIM_BF16 ? CUDA_R_16BF : CUDA_R_32F;
}

static cublasOperation_t operation(bool transpose) {
    return transpose ? CUBLAS_OP_T : CUBLAS_OP_N;
}

typedef struct stored_operand {
    brim_dtype dtype;
    int64_t rows, columns, row; // row-major
    int64_t batch;              // stride
} stored_operand;

// A row-major matrix is, column by column, its transpose.
static bool make_layout(const cuda_matmul *m, const stored_operand *x, int64_t batch,
                        cublasLtMatrixLayout_t *out, brim_error *err) {
    int32_t count = (int32_t)batch;
    cublasLtMatrixLayout_t layout = NULL;
    if (!CHECK(m, cublasLtMatrixLayoutCreate, &layout, data_type(x->dtype), (uint64_t)x->columns,
               (uint64_t)x->rows, x->row))
        return false;
    *out = layout;
    return CHECK(m, cublasLtMatrixLayoutSetAttribute, layout, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT,
                 &count, sizeof count) &&
           CHECK(m, cublasLtMatrixLayoutSetAttribute, layout,
                 CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, &x->batch, sizeof x->batch);
}

static void free_form(const cuda_matmul *m, cuda_product_form *f) {
    if (f->product) m->lt.cublasLtMatmulDescDestroy(f->product);
    if (f->a) m->lt.cublasLtMatrixLayoutDestroy(f->a);
    if (f->b) m->lt.cublasLtMatrixLayoutDestroy(f->b);
    if (f->c) m->lt.cublasLtMatrixLayoutDestroy(f->c);
    *f = (cuda_product_form){0};
}

// C = op(A) op(B) row by row is C' = op(B)' op(A)' column by column: the operands change places and
// keep their flags. Sums in f32 without TF32.
static bool make_form(const cuda_matmul *m, const matmul_shape *s, cuda_product_form *out,
                      brim_error *err) {
    cublasOperation_t first = operation(s->transpose_b), second = operation(s->transpose_a);
    stored_operand a = {s->in, s->transpose_a ? s->k : s->m, s->transpose_a ? s->m : s->k, s->row_a,
                        s->batch_a};
    stored_operand b = {s->in, s->transpose_b ? s->n : s->k, s->transpose_b ? s->k : s->n, s->row_b,
                        s->batch_b};
    stored_operand c = {s->out, s->m, s->n, s->row_c, s->batch_c};
    *out = (cuda_product_form){0};
    if (CHECK(m, cublasLtMatmulDescCreate, &out->product, CUBLAS_COMPUTE_32F, CUDA_R_32F) &&
        CHECK(m, cublasLtMatmulDescSetAttribute, out->product, CUBLASLT_MATMUL_DESC_TRANSA, &first,
              sizeof first) &&
        CHECK(m, cublasLtMatmulDescSetAttribute, out->product, CUBLASLT_MATMUL_DESC_TRANSB, &second,
              sizeof second) &&
        make_layout(m, &b, s->batch, &out->a, err) && make_layout(m, &a, s->batch, &out->b, err) &&
        make_layout(m, &c, s->batch, &out->c, err))
        return true;
    free_form(m, out);
    return false;
}

// ---- choosing -----------------------------------------------------------------------------------

static bool set_preferences(const cuda_matmul *m, const matmul_shape *s,
                            cublasLtMatmulPreference_t preference, brim_error *err) {
    // Partial sums meet in f32, in the workspace: not in the result, where they would be rounded.
    uint32_t reductions = CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE;
    // One number stands for all matrices; each is aligned to its own elements at least.
    const struct {
        cublasLtMatmulPreferenceAttributes_t which;
        brim_dtype dtype;
    } matrix[] = {{CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, s->in},
                  {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, s->in},
                  {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, s->out},
                  {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, s->out}};
    for (int i = 0; i < 4; i++) {
        uint32_t least = (uint32_t)brim_dtype_bytes(matrix[i].dtype),
                 given = (uint32_t)s->alignment;
        uint32_t alignment = s->alignment > 0 && given > least ? given : least;
        if (!CHECK(m, cublasLtMatmulPreferenceSetAttribute, preference, matrix[i].which, &alignment,
                   sizeof alignment))
            return false;
    }
    return CHECK(m, cublasLtMatmulPreferenceSetAttribute, preference,
                 CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &max_workspace_bytes,
                 sizeof max_workspace_bytes) &&
           CHECK(m, cublasLtMatmulPreferenceSetAttribute, preference,
                 CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &reductions, sizeof reductions);
}

// The library has no answer for shapes that it does not serve: that is no error.
static void ask_heuristic(const cuda_matmul *m, const cuda_product_form *f,
                          cublasLtMatmulPreference_t preference, cuda_choice *out) {
    cublasLtMatmulHeuristicResult_t result[HEURISTIC_RESULTS] = {0};
    int results = 0;
    if (m->lt.cublasLtMatmulAlgoGetHeuristic(m->handle, f->product, f->a, f->b, f->c, f->c,
                                             preference, HEURISTIC_RESULTS, result,
                                             &results) != CUBLAS_STATUS_SUCCESS)
        return;
    for (int i = 0; i < results && !out->served; i++) {
        if (result[i].state != CUBLAS_STATUS_SUCCESS ||
            result[i].workspaceSize > max_workspace_bytes)
            continue;
        out->served = true;
        out->algorithm = result[i].algo;
        out->workspace_bytes = result[i].workspaceSize;
    }
}

static bool served_at_all(const matmul_shape *s) {
    return s->in != BRIM_I32 && s->out != BRIM_I32 && s->batch <= INT32_MAX;
}

static void choose(const cuda_matmul *m, const matmul_shape *s, cuda_choice *out, brim_error *err) {
    cuda_product_form form;
    cublasLtMatmulPreference_t preference = NULL;
    *out = (cuda_choice){.shape = *s};
    if (!served_at_all(s) || !make_form(m, s, &form, err)) return;
    if (CHECK(m, cublasLtMatmulPreferenceCreate, &preference) &&
        set_preferences(m, s, preference, err))
        ask_heuristic(m, &form, preference, out);
    if (preference) m->lt.cublasLtMatmulPreferenceDestroy(preference);
    free_form(m, &form);
}

static bool same_shape(const matmul_shape *a, const matmul_shape *b) {
    return a->in == b->in && a->out == b->out && a->m == b->m && a->n == b->n && a->k == b->k &&
           a->batch == b->batch && a->transpose_a == b->transpose_a &&
           a->transpose_b == b->transpose_b && a->row_a == b->row_a && a->row_b == b->row_b &&
           a->row_c == b->row_c && a->batch_a == b->batch_a && a->batch_b == b->batch_b &&
           a->batch_c == b->batch_c && a->alignment == b->alignment;
}

// The choice for a shape, made when it is first asked for; NULL without a library, or with an
// error.
static const cuda_choice *find_choice(backend_device *d, const matmul_shape *s, brim_error *err) {
    cuda_matmul *m = &d->matmul;
    if (!m->handle || failed(err)) return NULL;
    for (size_t i = 0; i < m->choices; i++)
        if (same_shape(&m->choice[i].shape, s)) return &m->choice[i];
    CUcontext before;
    if (!brim_grow((void **)&m->choice, &m->capacity, m->choices + 1, sizeof *m->choice, err) ||
        !cuda_enter(d, &before, err))
        return NULL;
    cuda_choice *choice = &m->choice[m->choices];
    choose(m, s, choice, err);
    cuda_leave(d, before);
    if (failed(err)) return NULL;
    m->choices++;
    return choice;
}

bool cuda_matmul_serves(backend_device *d, const matmul_shape *shape) {
    brim_error problem = {0}; // then our own kernel serves it
    const cuda_choice *choice = find_choice(d, shape, &problem);
    return choice && choice->served;
}

brim_status cuda_matmul_workspace(backend_device *d, const matmul_shape *shape, int64_t *bytes,
                                  brim_error *err) {
    const cuda_choice *choice = find_choice(d, shape, err);
    *bytes = choice ? (int64_t)choice->workspace_bytes : 0;
    return err->status;
}

// ---- running ------------------------------------------------------------------------------------

// The bytes from an operand's first element to its last one's end.
static int64_t extent_bytes(brim_dtype dtype, int64_t rows, int64_t columns, int64_t row,
                            int64_t batch, int64_t batch_stride) {
    return ((batch - 1) * batch_stride + (rows - 1) * row + columns) *
           (int64_t)brim_dtype_bytes(dtype);
}

static bool place(const backend_device *d, const matmul_record *r, cuda_product *out,
                  brim_error *err) {
    const matmul_shape *s = &r->shape;
    int64_t rows_a = s->transpose_a ? s->k : s->m, columns_a = s->transpose_a ? s->m : s->k;
    int64_t rows_b = s->transpose_b ? s->n : s->k, columns_b = s->transpose_b ? s->k : s->n;
    int64_t a = extent_bytes(s->in, rows_a, columns_a, s->row_a, s->batch, s->batch_a);
    int64_t b = extent_bytes(s->in, rows_b, columns_b, s->row_b, s->batch, s->batch_b);
    int64_t c = extent_bytes(s->out, s->m, s->n, s->row_c, s->batch, s->batch_c);
    return cuda_address(d, r->a, a, &out->a, err) && cuda_address(d, r->b, b, &out->b, err) &&
           cuda_address(d, r->c, c, &out->c, err) &&
           cuda_address(d, r->workspace, r->workspace_bytes, &out->workspace, err);
}

bool cuda_matmul_prepare(backend_device *d, const matmul_record *record, cuda_product *out,
                         brim_error *err) {
    const cuda_choice *choice = find_choice(d, &record->shape, err);
    *out = (cuda_product){0};
    if (failed(err)) return false;
    if (!choice || !choice->served) {
        brim_fail(err, BRIM_UNSUPPORTED, "no library serves this product%s%s",
                  *d->matmul.why ? ": " : "", d->matmul.why);
        return false;
    }
    if ((int64_t)choice->workspace_bytes > record->workspace_bytes) {
        brim_fail(err, BRIM_ARGUMENT, "its workspace has %lld bytes, %zu are needed",
                  (long long)record->workspace_bytes, choice->workspace_bytes);
        return false;
    }
    out->algorithm = choice->algorithm;
    out->workspace_bytes = choice->workspace_bytes;
    return place(d, record, out, err) && make_form(&d->matmul, &record->shape, &out->form, err);
}

void cuda_matmul_release(backend_device *d, cuda_product *p) {
    free_form(&d->matmul, &p->form);
}

static void *pointer(CUdeviceptr address) {
    return (void *)(uintptr_t)address;
}

bool cuda_matmul_enqueue(backend_device *d, const cuda_product *p, CUstream stream,
                         brim_error *err) {
    static const float one = 1, zero = 0;
    const cuda_matmul *m = &d->matmul;
    cublasStatus_t status = m->lt.cublasLtMatmul(
        m->handle, p->form.product, &one, pointer(p->b), p->form.a, pointer(p->a), p->form.b, &zero,
        pointer(p->c), p->form.c, pointer(p->c), p->form.c, &p->algorithm, pointer(p->workspace),
        p->workspace_bytes, stream);
    if (status == CUBLAS_STATUS_SUCCESS) return true;
    // The library has no word for a device that is lost.
    CUresult state = d->cu.stream_synchronize(stream);
    if (cuda_loses_device(state)) return cuda_check(&d->cu, state, "cublasLtMatmul", err);
    return check(&m->lt, status, "cublasLtMatmul", err);
}
