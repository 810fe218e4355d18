// Matrix products by cuBLASLt, on a stream.
//
//   1. cuda_matmul_open(d, version, err) once the context is there: no library is no error, `why`
//      says so then; one that memory does not suffice for is
//   2. cuda_matmul_serves, cuda_matmul_workspace while planning
//   3. cuda_product p; cuda_matmul_prepare(d, &record, &p, err) when a program is loaded
//   4. cuda_matmul_enqueue(d, &p, stream, err)
//
// The algorithm of a shape is the first that the library's heuristic offers, asked once per shape
// and device; so it is fixed before planning. Sums of partial products are in f32 and in a fixed
// order, and rounded once.
#ifndef BRIM_BACKENDS_CUDA_MATMUL_H
#define BRIM_BACKENDS_CUDA_MATMUL_H

#include <cublasLt.h>
#include "backends/cuda/driver.h"
#include "backends/program.h"

typedef struct backend_device backend_device;

#define CUBLASLT_FUNCTIONS(X)                                                                      \
    X(cublasLtCreate)                                                                              \
    X(cublasLtDestroy)                                                                             \
    X(cublasLtGetVersion)                                                                          \
    X(cublasLtGetStatusName)                                                                       \
    X(cublasLtMatmul)                                                                              \
    X(cublasLtMatmulAlgoGetHeuristic)                                                              \
    X(cublasLtMatmulDescCreate)                                                                    \
    X(cublasLtMatmulDescDestroy)                                                                   \
    X(cublasLtMatmulDescSetAttribute)                                                              \
    X(cublasLtMatmulPreferenceCreate)                                                              \
    X(cublasLtMatmulPreferenceDestroy)                                                             \
    X(cublasLtMatmulPreferenceSetAttribute)                                                        \
    X(cublasLtMatrixLayoutCreate)                                                                  \
    X(cublasLtMatrixLayoutDestroy)                                                                 \
    X(cublasLtMatrixLayoutSetAttribute)

typedef struct cublaslt_library {
#define X(name) __typeof__(&name) name;
    CUBLASLT_FUNCTIONS(X)
#undef X
} cublaslt_library;

// A product as the library is told it: column-major, so its operands are swapped.
typedef struct cuda_product_form {
    cublasLtMatmulDesc_t product;
    cublasLtMatrixLayout_t a, b, c; // the library's A is our B
} cuda_product_form;

// What was chosen for a shape. Shapes that the library does not serve are remembered, too.
typedef struct cuda_choice {
    matmul_shape shape;
    bool served;
    cublasLtMatmulAlgo_t algorithm;
    size_t workspace_bytes;
} cuda_choice;

typedef struct cuda_matmul {
    dynlib file;
    cublaslt_library lt;
    cublasLtHandle_t handle; // NULL: none
    cuda_choice *choice;
    size_t choices, capacity;
    char name[128]; // what serves products, or "" for none
    char why[256];  // not
} cuda_matmul;

// A prepared product.
typedef struct cuda_product {
    cuda_product_form form;
    cublasLtMatmulAlgo_t algorithm;
    CUdeviceptr a, b, c, workspace;
    size_t workspace_bytes;
} cuda_product;

void cuda_matmul_open(backend_device *d, int driver_version, brim_error *err);
void cuda_matmul_close(backend_device *d);
bool cuda_matmul_serves(backend_device *d, const matmul_shape *shape);
brim_status cuda_matmul_workspace(backend_device *d, const matmul_shape *shape, int64_t *bytes,
                                  brim_error *err);

bool cuda_matmul_prepare(backend_device *d, const matmul_record *record, cuda_product *out,
                         brim_error *err);
void cuda_matmul_release(backend_device *d, cuda_product *p);
bool cuda_matmul_enqueue(backend_device *d, const cuda_product *p, CUstream stream,
                         brim_error *err);

#endif
