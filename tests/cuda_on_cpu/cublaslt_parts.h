// The parts of the cuBLASLt that stands in on the CPU (see cuda_on_cpu.h). The same sources make
// libcublasLt.so.13 and .12.
//
//   cublaslt_objects.c      handles and descriptors: made, changed, found again
//   cublaslt_problem.c      whether descriptors make a product that the library serves
//   cublaslt_algorithms.c   what the heuristic answers
//   cublaslt_operands.c     whether pointers suit a product
//   cublaslt_product.c      the product itself
//   cublaslt.c              cublasLtMatmul, and what fits nowhere else
//
// What the real library 13.1 accepts where no GPU is needed was tried out (sizes of attributes,
// what Create and Destroy say of NULL, names of statuses). For the rest: the comments of cublasLt.h
// and https://docs.nvidia.com/cuda/cublas/#cublasltmatmul. What only this stand-in lacks is refused
// with CUBLAS_STATUS_NOT_SUPPORTED and a line that says "not served here".
#ifndef BRIM_TESTS_CUBLASLT_PARTS_H
#define BRIM_TESTS_CUBLASLT_PARTS_H

#pragma GCC visibility push(default)
#include <cublasLt.h>
#pragma GCC visibility pop
#include "tests/cuda_on_cpu/cuda_on_cpu.h"

// Each call of the library begins with it.
#define ENTER(call)                                                                                \
    do {                                                                                           \
        int injected = cuda_on_cpu_enter(call);                                                    \
        if (injected) return (cublasStatus_t)injected;                                             \
    } while (0)

// The status of a call that is refused, after a line that says why.
#define REFUSE(call, status, ...) (cuda_on_cpu_complain(call, __VA_ARGS__), (status))

// ---- objects ------------------------------------------------------------------------------------

typedef enum object_kind {
    OBJECT_HANDLE = 1, // 0: free
    OBJECT_OPERATION,
    OBJECT_LAYOUT,
    OBJECT_PREFERENCE
} object_kind;

typedef struct lt_handle {
    CUcontext context; // that was current when it was made
} lt_handle;

typedef struct lt_operation {
    int32_t compute_type, scale_type, pointer_mode, op_a, op_b, op_c, fill_mode;
    uint32_t epilogue;
} lt_operation;

typedef struct lt_layout {
    uint32_t type;
    int32_t order;
    uint64_t rows, columns;
    int64_t ld, batch_stride, plane_offset; // elements, elements, bytes
    int32_t batch;
    uint32_t batch_mode;
} lt_layout;

enum { MATRIX_A, MATRIX_B, MATRIX_C, MATRIX_D, MATRICES };

typedef struct lt_preference {
    uint64_t max_workspace_bytes;
    uint32_t search_mode, reductions;
    uint32_t alignment[MATRICES];
} lt_preference;

// The object behind what a caller holds: NULL, with a line, where it is none of this kind that
// lives. Pointers to anywhere may be asked for.
lt_handle *find_handle(const char *call, cublasLtHandle_t held);
lt_operation *find_operation(const char *call, cublasLtMatmulDesc_t held);
lt_layout *find_layout(const char *call, cublasLtMatrixLayout_t held, const char *what);
lt_preference *find_preference(const char *call, cublasLtMatmulPreference_t held);

// ---- problems -----------------------------------------------------------------------------------

// D = alpha op(A) op(B) + beta C, column-major: op(A) is m x k, op(B) k x n.
typedef struct lt_problem {
    lt_operation operation;
    lt_layout matrix[MATRICES];
    int64_t m, n, k, batch;
} lt_problem;

// Of the library's types, those that are served here.
typedef enum element_type { ELEMENT_F32, ELEMENT_F16, ELEMENT_BF16 } element_type;

static inline element_type element_type_of(const lt_layout *x) {
    return x->type == CUDA_R_16F    ? ELEMENT_F16
           : x->type == CUDA_R_16BF ? ELEMENT_BF16
                                    : ELEMENT_F32;
}

static inline int64_t element_bytes(const lt_layout *x) {
    return x->type == CUDA_R_32F ? 4 : 2;
}

const char *matrix_name(int matrix);

// Whether descriptors fit each other. Every refusal has its line.
cublasStatus_t read_problem(const char *call, cublasLtMatmulDesc_t operation,
                            const cublasLtMatrixLayout_t layout[MATRICES], lt_problem *out);
// Why the library does not serve a product that is otherwise in order; NULL where it does.
const char *why_not_served(const lt_problem *p);

// ---- algorithms ---------------------------------------------------------------------------------

enum {
    MAX_PARTS = 8,
    WORKSPACE_ALIGNMENT = 256, // "at least a multiple of 256 bytes": the page named above
};

typedef struct lt_algorithm {
    uint64_t seal;    // of what follows, and of the library's version
    uint64_t problem; // digest of the descriptors that it was chosen for
    uint64_t workspace_bytes;
    int32_t parts; // of k: more than one is split-K
    int32_t chunk; // of a part: sums of so many products each meet in f32; 0: no chunks
    uint32_t reduction;
    uint8_t alignment[MATRICES]; // log2 of bytes, that pointers were said to have
} lt_algorithm;

// What a caller handed in: false, with a line, where it was not chosen for these descriptors.
bool open_algorithm(const char *call, const cublasLtMatmulAlgo_t *held, const lt_problem *p,
                    lt_algorithm *out);

// ---- products -----------------------------------------------------------------------------------

typedef struct lt_product {
    lt_problem problem;
    lt_algorithm algorithm;
    float alpha, beta;
    CUdeviceptr matrix[MATRICES], workspace;
    size_t workspace_bytes;
} lt_product;

// Whether operands and workspace suit the problem and the algorithm. Every refusal has its line.
cublasStatus_t check_operands(const char *call, const lt_product *p);
// Whether the work that runs may touch them.
bool access_operands(const lt_product *p);
// Computes an lt_product, when its turn on the stream comes.
void run_product(void *product);

#endif
