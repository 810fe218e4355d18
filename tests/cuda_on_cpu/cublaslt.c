// cublasLtMatmul, and the calls without an object.
#include <stdlib.h>
#include "tests/cuda_on_cpu/cublaslt_parts.h"

size_t cublasLtGetVersion(void) {
    cuda_on_cpu_enter("cublasLtGetVersion"); // has no status to fail with
    return CUBLASLT_ON_CPU_VERSION;
}

const char *cublasLtGetStatusName(cublasStatus_t status) {
    static const char *const name[] = {
#define NAME(status) [status] = #status
        NAME(CUBLAS_STATUS_SUCCESS),          NAME(CUBLAS_STATUS_NOT_INITIALIZED),
        NAME(CUBLAS_STATUS_ALLOC_FAILED),     NAME(CUBLAS_STATUS_INVALID_VALUE),
        NAME(CUBLAS_STATUS_ARCH_MISMATCH),    NAME(CUBLAS_STATUS_MAPPING_ERROR),
        NAME(CUBLAS_STATUS_EXECUTION_FAILED), NAME(CUBLAS_STATUS_INTERNAL_ERROR),
        NAME(CUBLAS_STATUS_NOT_SUPPORTED),    NAME(CUBLAS_STATUS_LICENSE_ERROR),
#undef NAME
    };
    cuda_on_cpu_enter("cublasLtGetStatusName");
    size_t at = (size_t)status;
    return at < sizeof name / sizeof *name && name[at] ? name[at] : "unrecognized status";
}

static const char call[] = "cublasLtMatmul";

static cublasStatus_t check_context(const lt_handle *handle) {
    CUcontext current = NULL;
    if (cuCtxGetCurrent(&current) != CUDA_SUCCESS)
        return REFUSE(call, CUBLAS_STATUS_INTERNAL_ERROR, "cuCtxGetCurrent failed");
    if (current != handle->context)
        return REFUSE(call, CUBLAS_STATUS_INVALID_VALUE,
                      "the handle was made in another context than the current one");
    return CUBLAS_STATUS_SUCCESS;
}

// Host pointer mode: alpha and beta are read now.
static cublasStatus_t read_scalar(const float *from, const char *name, float *out) {
    if (!from) return REFUSE(call, CUBLAS_STATUS_INVALID_VALUE, "%s is NULL", name);
    if (cuda_on_cpu_is_device((CUdeviceptr)(uintptr_t)from, sizeof *from))
        return REFUSE(call, CUBLAS_STATUS_INVALID_VALUE,
                      "%s is in device memory, and the pointer mode is the host's", name);
    *out = *from;
    return CUBLAS_STATUS_SUCCESS;
}

// cuda_on_cpu_enqueue frees the copy, also where it refuses it, which it says itself.
static cublasStatus_t queue_product(const lt_product *p, CUstream stream) {
    lt_product *copy = malloc(sizeof *copy);
    if (!copy) return REFUSE(call, CUBLAS_STATUS_ALLOC_FAILED, "no memory");
    *copy = *p;
    CUresult status = cuda_on_cpu_enqueue(stream, call, run_product, copy);
    return status == CUDA_SUCCESS ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_EXECUTION_FAILED;
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t held_handle, cublasLtMatmulDesc_t operation,
                              const void *alpha, const void *a, cublasLtMatrixLayout_t layout_a,
                              const void *b, cublasLtMatrixLayout_t layout_b, const void *beta,
                              const void *c, cublasLtMatrixLayout_t layout_c, void *d,
                              cublasLtMatrixLayout_t layout_d,
                              const cublasLtMatmulAlgo_t *algorithm, void *workspace,
                              size_t workspace_bytes, cudaStream_t stream) {
    ENTER(call);
    const lt_handle *handle = find_handle(call, held_handle);
    if (!handle) return CUBLAS_STATUS_NOT_INITIALIZED;
    lt_product p = {.matrix = {(CUdeviceptr)(uintptr_t)a, (CUdeviceptr)(uintptr_t)b,
                               (CUdeviceptr)(uintptr_t)c, (CUdeviceptr)(uintptr_t)d},
                    .workspace = (CUdeviceptr)(uintptr_t)workspace,
                    .workspace_bytes = workspace_bytes};
    const cublasLtMatrixLayout_t layouts[MATRICES] = {layout_a, layout_b, layout_c, layout_d};
    cublasStatus_t status = check_context(handle);
    if (!status) status = read_problem(call, operation, layouts, &p.problem);
    if (status) return status;
    const char *why = why_not_served(&p.problem);
    if (why) return REFUSE(call, CUBLAS_STATUS_NOT_SUPPORTED, "%s", why);
    if (!open_algorithm(call, algorithm, &p.problem, &p.algorithm))
        return CUBLAS_STATUS_INVALID_VALUE;
    status = read_scalar(alpha, "alpha", &p.alpha);
    if (!status) status = read_scalar(beta, "beta", &p.beta);
    if (!status) status = check_operands(call, &p);
    return status ? status : queue_product(&p, stream);
}
