// What the heuristic of the stand-in answers.
//
// Three kinds of algorithm, whose sums differ in their order and so in their bits: plain (all of k,
// one after the other), chunked (wants 16-byte alignment of everything), split-K (parts of k meet
// in the workspace). Products with a large k offer split-K first.
#include <string.h>
#include "tests/cuda_on_cpu/cublaslt_parts.h"

enum { CHUNK = 64, CHUNK_ALIGNMENT = 16, MAX_CANDIDATES = 8 };
enum { MIN_PART = 16, PROCESSORS = 80, TILE = 64 };

// ---- an algorithm as the caller holds it --------------------------------------------------------

// FNV-1a (Fowler, Noll, Vo).
static uint64_t digest(uint64_t hash, const void *data, size_t bytes) {
    for (size_t i = 0; i < bytes; i++) hash = (hash ^ ((const uint8_t *)data)[i]) * 0x100000001b3;
    return hash;
}
static const uint64_t digest_start = 0xcbf29ce484222325;

_Static_assert(sizeof(lt_operation) == 8 * 4, "a digest takes no padding");
_Static_assert(sizeof(lt_layout) == 7 * 8, "a digest takes no padding");
_Static_assert(sizeof(lt_algorithm) == 5 * 8, "a digest takes no padding");
_Static_assert(sizeof(lt_algorithm) <= sizeof(cublasLtMatmulAlgo_t), "it fits");

static uint64_t problem_digest(const lt_problem *p) {
    uint64_t hash = digest(digest_start, &p->operation, sizeof p->operation);
    return digest(hash, p->matrix, sizeof p->matrix);
}

static uint64_t seal_of(const lt_algorithm *a) {
    return digest(digest_start ^ CUBLASLT_ON_CPU_VERSION, &a->problem,
                  sizeof *a - offsetof(lt_algorithm, problem));
}

bool open_algorithm(const char *call, const cublasLtMatmulAlgo_t *held, const lt_problem *p,
                    lt_algorithm *out) {
    if (!held) {
        cuda_on_cpu_complain(call, "no algorithm; the heuristic's choice is not made here");
        return false;
    }
    memcpy(out, held, sizeof *out);
    if (out->seal != seal_of(out))
        cuda_on_cpu_complain(call, "the algorithm is none that this library's heuristic chose");
    else if (out->problem != problem_digest(p))
        cuda_on_cpu_complain(call, "the algorithm was chosen for other descriptors");
    else
        return true;
    return false;
}

// ---- candidates ---------------------------------------------------------------------------------

typedef struct candidates {
    const lt_problem *problem;
    const lt_preference *preference;
    cublasLtMatmulHeuristicResult_t result[MAX_CANDIDATES];
    int count;
} candidates;

static uint8_t log2_of(uint32_t power) {
    return (uint8_t)__builtin_ctz(power);
}

static void add(candidates *c, cublasStatus_t state, lt_algorithm a) {
    cublasLtMatmulHeuristicResult_t *r = &c->result[c->count++];
    const lt_problem *p = c->problem;
    *r = (cublasLtMatmulHeuristicResult_t){.state = state};
    memset(&r->algo, 0xdb, sizeof r->algo); // "other fields are only valid" where it is a success
    if (state != CUBLAS_STATUS_SUCCESS) return;
    a.problem = problem_digest(p);
    for (int i = 0; i < MATRICES; i++) a.alignment[i] = log2_of(c->preference->alignment[i]);
    a.seal = seal_of(&a);
    memcpy(&r->algo, &a, sizeof a);
    r->workspaceSize = a.workspace_bytes;
    int64_t tiles = (p->m + TILE - 1) / TILE * ((p->n + TILE - 1) / TILE) * p->batch;
    r->wavesCount = (float)(tiles * a.parts) / PROCESSORS;
}

// As many parts as the limits allow, at least two.
static void add_split(candidates *c, int64_t most, uint32_t reduction) {
    const lt_problem *p = c->problem;
    if (!(c->preference->reductions & reduction)) return;
    int64_t element = reduction == CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE
                          ? 4
                          : element_bytes(&p->matrix[MATRIX_D]);
    int64_t parts = p->k / MIN_PART < most ? p->k / MIN_PART : most;
    for (; parts >= 2; parts--) {
        int64_t bytes = 0;
        if (__builtin_mul_overflow(p->m * p->n, parts * p->batch * element, &bytes)) continue;
        bytes = (bytes + WORKSPACE_ALIGNMENT - 1) / WORKSPACE_ALIGNMENT * WORKSPACE_ALIGNMENT;
        if ((uint64_t)bytes > c->preference->max_workspace_bytes) continue;
        add(c, CUBLAS_STATUS_SUCCESS,
            (lt_algorithm){.workspace_bytes = (uint64_t)bytes,
                           .parts = (int32_t)parts,
                           .reduction = reduction});
        return;
    }
}

static bool pointers_have(const candidates *c, uint32_t bytes) {
    for (int i = 0; i < MATRICES; i++)
        if (c->preference->alignment[i] < bytes) return false;
    return true;
}

static bool strides_have(const lt_problem *p, int64_t bytes) {
    for (int i = 0; i < MATRICES; i++) {
        const lt_layout *x = &p->matrix[i];
        if (x->ld * element_bytes(x) % bytes) return false;
        if (x->batch > 1 && x->batch_stride * element_bytes(x) % bytes) return false;
    }
    return true;
}

// An assumption: what the library answers to who promises less than whole elements was not tried.
static bool elements_are_aligned(const candidates *c) {
    for (int i = 0; i < MATRICES; i++)
        if (c->preference->alignment[i] < element_bytes(&c->problem->matrix[i])) return false;
    return true;
}

// The order is that of the times that they are said to take.
static void gather(candidates *c) {
    const lt_problem *p = c->problem;
    if (!elements_are_aligned(c)) return;
    int64_t larger = p->m > p->n ? p->m : p->n;
    bool deep = p->k >= 4 * MIN_PART && p->k >= 4 * larger;
    if (deep) {
        add_split(c, MAX_PARTS, CUBLASLT_REDUCTION_SCHEME_OUTPUT_TYPE);
        add_split(c, MAX_PARTS, CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE);
    }
    if (pointers_have(c, CHUNK_ALIGNMENT))
        add(c,
            strides_have(p, CHUNK_ALIGNMENT) ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_NOT_SUPPORTED,
            (lt_algorithm){.parts = 1, .chunk = CHUNK});
    add(c, CUBLAS_STATUS_SUCCESS, (lt_algorithm){.parts = 1});
    if (!deep) {
        add_split(c, 2, CUBLASLT_REDUCTION_SCHEME_OUTPUT_TYPE);
        add_split(c, 2, CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE);
    }
}

// ---- the call -----------------------------------------------------------------------------------

static cublasStatus_t check_preference(const char *call, const lt_preference *p) {
    if (p->search_mode != CUBLASLT_SEARCH_BEST_FIT)
        return REFUSE(call, CUBLAS_STATUS_NOT_SUPPORTED, "search mode %u is not served here",
                      p->search_mode);
    if (p->reductions & ~(uint32_t)CUBLASLT_REDUCTION_SCHEME_MASK)
        return REFUSE(call, CUBLAS_STATUS_INVALID_VALUE, "reduction schemes 0x%x", p->reductions);
    for (int i = 0; i < MATRICES; i++)
        if (!p->alignment[i] || p->alignment[i] & (p->alignment[i] - 1))
            return REFUSE(call, CUBLAS_STATUS_INVALID_VALUE,
                          "an alignment of %u bytes for %s is no power of two", p->alignment[i],
                          matrix_name(i));
    return CUBLAS_STATUS_SUCCESS;
}

// A question for what the library does not serve is no mistake: no line then.
cublasStatus_t
cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t handle, cublasLtMatmulDesc_t operation,
                               cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                               cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                               cublasLtMatmulPreference_t held_preference, int requested,
                               cublasLtMatmulHeuristicResult_t result[], int *returned) {
    static const char call[] = "cublasLtMatmulAlgoGetHeuristic";
    if (returned) *returned = 0;
    ENTER(call);
    if (!find_handle(call, handle)) return CUBLAS_STATUS_NOT_INITIALIZED;
    if (requested < 1 || !result || !returned)
        return REFUSE(call, CUBLAS_STATUS_INVALID_VALUE, "no place for its results");
    const lt_preference *preference = find_preference(call, held_preference);
    if (!preference) return CUBLAS_STATUS_INVALID_VALUE;
    lt_problem problem;
    cublasStatus_t status = check_preference(call, preference);
    if (!status)
        status =
            read_problem(call, operation, (cublasLtMatrixLayout_t[MATRICES]){a, b, c, d}, &problem);
    if (status) return status;
    if (why_not_served(&problem)) return CUBLAS_STATUS_NOT_SUPPORTED;
    candidates found = {.problem = &problem, .preference = preference};
    gather(&found);
    *returned = found.count < requested ? found.count : requested;
    memcpy(result, found.result, (size_t)*returned * sizeof *result);
    return *returned ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_NOT_SUPPORTED;
}
