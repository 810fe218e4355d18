// Products by the cuBLASLt that stands in on the CPU (tests/cuda_on_cpu/), called as a program
// would call it. Column-major, as the library is. Each file that includes this has its own.
//
//   1. start and finish as a checked fixture
//   2. if (!open_rig()) return;      no stand-in on the library path: skipped
//   3. spec s = complete((spec){...});  call c;  describe(&c, &s);  ask(&c);  choose(&c, result);
//      multiply(&c);
//   4. forget(&c)
#ifndef BRIM_TESTS_CUBLASLT_RIG_H
#define BRIM_TESTS_CUBLASLT_RIG_H

#include <check.h>
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>
#include "backends/cuda/matmul.h"
#include "tests/listener.h"
#include "tests/skips.h"
#include "tests/test_core.h"

enum { A, B, C, D, MATRICES };
enum {
    SPACE = 1 << 20,
    PLACE = SPACE / 4,
    WORKSPACE = 3 * PLACE,
    GUARD = 256,
    RESULTS = 8,
    DEVICES = 2
};

static struct {
    void *file, *lt_file;
    cuda_driver cu;
    cublaslt_library lt;
    const char *(*configure)(const char *);
    CUcontext context[DEVICES];
    CUstream stream;
    CUdeviceptr space; // A, B, C or D, and the workspace, a PLACE each
    char *pinned;      // as large
    cublasLtHandle_t handle;
} rig;

static brim_error err;

// ---- the rig ------------------------------------------------------------------------------------

#define LT(call) ck_assert_int_eq(call, CUBLAS_STATUS_SUCCESS)
#define CU(call) ck_assert_int_eq(call, CUDA_SUCCESS)

static inline void open_library(const char *name) {
    rig.lt_file = dlopen(name, RTLD_NOW);
    ck_assert_msg(rig.lt_file != NULL, "%s", dlerror());
#define X(call)                                                                                    \
    *(void **)&rig.lt.call = dlsym(rig.lt_file, #call);                                            \
    ck_assert_ptr_nonnull(rig.lt.call);
    CUBLASLT_FUNCTIONS(X)
#undef X
}

// False, and the case is skipped, where libcuda is none or NVIDIA's.
static inline bool open_rig(void) {
    rig.file = dlopen("libcuda.so.1", RTLD_NOW);
    if (!rig.file || !dlsym(rig.file, "cuda_on_cpu_calls")) {
        skip(SKIP_no_cuda_on_cpu);
        return false;
    }
    *(void **)&rig.configure = dlsym(rig.file, "cuda_on_cpu_configure");
    ck_assert_ptr_null(rig.configure("devices=2"));
    cuda_driver_open(&rig.cu, &err);
    ASSERT_FINE(err);
    for (int i = DEVICES - 1; i >= 0; i--) {
        CU(rig.cu.device_primary_ctx_retain(&rig.context[i], i));
        CU(rig.cu.ctx_set_current(rig.context[i]));
    }
    CU(rig.cu.stream_create(&rig.stream, CU_STREAM_NON_BLOCKING));
    CU(rig.cu.mem_alloc(&rig.space, SPACE));
    CU(rig.cu.mem_host_alloc((void **)&rig.pinned, SPACE, 0));
    open_library("libcublasLt.so.13");
    LT(rig.lt.cublasLtCreate(&rig.handle));
    return true;
}

static inline void start(void) {
    memset(&rig, 0, sizeof rig);
    err = (brim_error){0};
}

static inline void finish(void) {
    if (!rig.handle) return;
    LT(rig.lt.cublasLtDestroy(rig.handle));
    CU(rig.cu.mem_free_host(rig.pinned));
    CU(rig.cu.mem_free(rig.space));
    CU(rig.cu.stream_destroy(rig.stream));
    for (int i = 0; i < DEVICES; i++) CU(rig.cu.device_primary_ctx_release(i));
}

// ---- a product ----------------------------------------------------------------------------------

typedef struct spec {
    cudaDataType in, out;
    int64_t m, n, k, batch; // batch 0: 1
    bool transpose[2];
    int64_t ld[MATRICES], stride[MATRICES]; // ld 0: dense
    float alpha, beta;                      // alpha 0: 1
    bool apart;                             // C is not D
    uint32_t alignment;                     // 0: the element's
    uint64_t workspace;                     // at most
    uint32_t reductions;                    // 0: in f32 only
} spec;

// The same as the library is told it, with pointers.
typedef struct call {
    cublasLtHandle_t handle;
    cublasLtMatmulDesc_t operation;
    cublasLtMatrixLayout_t layout[MATRICES];
    cublasLtMatmulPreference_t preference;
    cublasLtMatmulHeuristicResult_t result[RESULTS];
    int requested, results;
    float alpha, beta;
    const void *at_alpha, *at_beta;
    CUdeviceptr matrix[MATRICES], workspace;
    const cublasLtMatmulAlgo_t *algorithm;
    size_t workspace_bytes;
    CUstream stream;
} call;

static inline int64_t bytes_of(cudaDataType type) {
    return type == CUDA_R_32F ? 4 : 2;
}

static inline cudaDataType type_of(const spec *s, int matrix) {
    return matrix < C ? s->in : s->out;
}

static inline int64_t rows_of(const spec *s, int matrix) {
    if (matrix == A) return s->transpose[A] ? s->k : s->m;
    if (matrix == B) return s->transpose[B] ? s->n : s->k;
    return s->m;
}

static inline int64_t columns_of(const spec *s, int matrix) {
    if (matrix == A) return s->transpose[A] ? s->m : s->k;
    if (matrix == B) return s->transpose[B] ? s->k : s->n;
    return s->n;
}

static inline spec complete(spec s) {
    if (!s.batch) s.batch = 1;
    if (s.alpha == 0) s.alpha = 1;
    for (int i = 0; i < MATRICES; i++)
        if (!s.ld[i]) s.ld[i] = rows_of(&s, i);
    if (!s.apart) s.ld[C] = s.ld[D], s.stride[C] = s.stride[D];
    return s;
}

// C that is not D lies in the middle of D's place.
static inline size_t offset_of(const spec *s, int matrix) {
    size_t guard = s->alignment ? s->alignment : GUARD + (size_t)bytes_of(type_of(s, matrix));
    if (matrix == C && s->apart) return C * (size_t)PLACE + PLACE / 2 + guard;
    return (size_t)(matrix == D ? C : matrix) * PLACE + guard;
}

static inline cublasLtMatrixLayout_t make_layout(const spec *s, int matrix) {
    cublasLtMatrixLayout_t layout;
    int32_t batch = (int32_t)s->batch;
    LT(rig.lt.cublasLtMatrixLayoutCreate(&layout, type_of(s, matrix), (uint64_t)rows_of(s, matrix),
                                         (uint64_t)columns_of(s, matrix), s->ld[matrix]));
    LT(rig.lt.cublasLtMatrixLayoutSetAttribute(layout, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, &batch,
                                               sizeof batch));
    LT(rig.lt.cublasLtMatrixLayoutSetAttribute(layout, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET,
                                               &s->stride[matrix], sizeof(int64_t)));
    return layout;
}

static inline void set_operation(call *c, cublasLtMatmulDescAttributes_t which, int32_t value) {
    LT(rig.lt.cublasLtMatmulDescSetAttribute(c->operation, which, &value, sizeof value));
}

static inline void prefer(call *c, cublasLtMatmulPreferenceAttributes_t which, uint32_t value) {
    LT(rig.lt.cublasLtMatmulPreferenceSetAttribute(c->preference, which, &value, sizeof value));
}

static inline void make_preference(call *c, const spec *s) {
    static const cublasLtMatmulPreferenceAttributes_t alignment[MATRICES] = {
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES};
    LT(rig.lt.cublasLtMatmulPreferenceCreate(&c->preference));
    for (int i = 0; i < MATRICES; i++)
        prefer(c, alignment[i], s->alignment ? s->alignment : (uint32_t)bytes_of(type_of(s, i)));
    prefer(c, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
           s->reductions ? s->reductions : CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE);
    LT(rig.lt.cublasLtMatmulPreferenceSetAttribute(c->preference,
                                                   CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
                                                   &s->workspace, sizeof s->workspace));
}

static inline cublasStatus_t ask(call *c) {
    return rig.lt.cublasLtMatmulAlgoGetHeuristic(
        c->handle, c->operation, c->layout[A], c->layout[B], c->layout[C], c->layout[D],
        c->preference, c->requested, c->result, &c->results);
}

static inline void choose(call *c, int result) {
    c->algorithm = &c->result[result].algo;
    c->workspace_bytes = c->result[result].workspaceSize;
}

// c stays where it is: it points into itself.
static inline void describe(call *c, const spec *s) {
    *c = (call){.handle = rig.handle, .stream = rig.stream, .requested = RESULTS};
    c->alpha = s->alpha, c->beta = s->beta;
    c->at_alpha = &c->alpha, c->at_beta = &c->beta;
    LT(rig.lt.cublasLtMatmulDescCreate(&c->operation, CUBLAS_COMPUTE_32F, CUDA_R_32F));
    set_operation(c, CUBLASLT_MATMUL_DESC_TRANSA, s->transpose[A] ? CUBLAS_OP_T : CUBLAS_OP_N);
    set_operation(c, CUBLASLT_MATMUL_DESC_TRANSB, s->transpose[B] ? CUBLAS_OP_T : CUBLAS_OP_N);
    for (int i = 0; i < MATRICES; i++) {
        c->layout[i] = make_layout(s, i);
        c->matrix[i] = rig.space + offset_of(s, i);
    }
    c->workspace = rig.space + WORKSPACE;
    make_preference(c, s);
}

static inline void forget(call *c) {
    LT(rig.lt.cublasLtMatmulDescDestroy(c->operation));
    for (int i = 0; i < MATRICES; i++) LT(rig.lt.cublasLtMatrixLayoutDestroy(c->layout[i]));
    LT(rig.lt.cublasLtMatmulPreferenceDestroy(c->preference));
    c->operation = NULL, c->preference = NULL;
    memset(c->layout, 0, sizeof c->layout);
}

static inline void *host_pointer(CUdeviceptr address) {
    return (void *)(uintptr_t)address;
}

static inline cublasStatus_t multiply(call *c) {
    return rig.lt.cublasLtMatmul(c->handle, c->operation, c->at_alpha, host_pointer(c->matrix[A]),
                                 c->layout[A], host_pointer(c->matrix[B]), c->layout[B], c->at_beta,
                                 host_pointer(c->matrix[C]), c->layout[C],
                                 host_pointer(c->matrix[D]), c->layout[D], c->algorithm,
                                 host_pointer(c->workspace), c->workspace_bytes, c->stream);
}

// A product to try things on.
static const spec plain = {.in = CUDA_R_32F,
                           .out = CUDA_R_32F,
                           .m = 24,
                           .n = 20,
                           .k = 40,
                           .ld = {32, 48, 28, 28},
                           .alignment = 64,
                           .workspace = 1 << 16};

#endif
