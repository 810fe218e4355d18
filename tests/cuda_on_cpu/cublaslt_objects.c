// Handles and descriptors of the cuBLASLt that stands in: made, changed, found again.
//
// All live in blocks that are never given back, and a slot is free for long before it is used
// again: so a pointer that was freed, or that never was one, is recognised without being followed.
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include "tests/cuda_on_cpu/cublaslt_parts.h"

enum { SLOTS = 1024, RESTING = 512, POISON = 0xdb };
static const uint32_t magic = 0x4c744f62;

typedef struct slot {
    uint32_t magic, kind; // kind 0: free
    struct slot *next;    // of the free ones, the longest free first
    union {
        lt_handle handle;
        lt_operation operation;
        lt_layout layout;
        lt_preference preference;
    } as;
} slot;

typedef struct block {
    struct block *next;
    slot slot[SLOTS];
} block;

static struct {
    pthread_mutex_t lock;
    block *blocks;
    slot *first, *last;
    int free;
} pool = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void put_last(slot *s) {
    s->next = NULL;
    if (pool.last)
        pool.last->next = s;
    else
        pool.first = s;
    pool.last = s;
    pool.free++;
}

static bool grow(void) {
    block *b = calloc(1, sizeof *b);
    if (!b) return false;
    b->next = pool.blocks;
    pool.blocks = b;
    for (int i = 0; i < SLOTS; i++) {
        b->slot[i].magic = magic;
        put_last(&b->slot[i]);
    }
    return true;
}

// What a caller is to hold; NULL where there is no memory.
static void *make(object_kind kind, const void *content, size_t bytes) {
    pthread_mutex_lock(&pool.lock);
    slot *s = NULL;
    if (pool.free > RESTING || grow()) {
        s = pool.first;
        pool.first = s->next;
        pool.free--;
        s->next = NULL;
        s->kind = kind;
        memset(&s->as, 0, sizeof s->as);
        memcpy(&s->as, content, bytes);
    }
    pthread_mutex_unlock(&pool.lock);
    return s;
}

static slot *live_slot(object_kind kind, const void *held) {
    uintptr_t at = (uintptr_t)held;
    for (block *b = pool.blocks; b; b = b->next) {
        uintptr_t begin = (uintptr_t)b->slot;
        if (at < begin || at >= begin + sizeof b->slot) continue;
        slot *s = &b->slot[(at - begin) / sizeof *s];
        return (uintptr_t)s == at && s->magic == magic && s->kind == kind ? s : NULL;
    }
    return NULL;
}

static void *find(const char *call, object_kind kind, const void *held, const char *what) {
    pthread_mutex_lock(&pool.lock);
    slot *s = live_slot(kind, held);
    pthread_mutex_unlock(&pool.lock);
    if (!s) cuda_on_cpu_complain(call, "%p is not %s that lives", held, what);
    return s ? &s->as : NULL;
}

static bool destroy(const char *call, object_kind kind, const void *held, const char *what) {
    pthread_mutex_lock(&pool.lock);
    slot *s = live_slot(kind, held);
    if (s) {
        s->kind = 0;
        memset(&s->as, POISON, sizeof s->as);
        put_last(s);
    }
    pthread_mutex_unlock(&pool.lock);
    if (!s) cuda_on_cpu_complain(call, "%p is not %s that lives", held, what);
    return s;
}

static const char a_handle[] = "a handle", an_operation[] = "a matmul descriptor",
                  a_layout[] = "a matrix layout", a_preference[] = "a matmul preference";

lt_handle *find_handle(const char *call, cublasLtHandle_t held) {
    return find(call, OBJECT_HANDLE, held, a_handle);
}

lt_operation *find_operation(const char *call, cublasLtMatmulDesc_t held) {
    return find(call, OBJECT_OPERATION, held, an_operation);
}

lt_layout *find_layout(const char *call, cublasLtMatrixLayout_t held, const char *what) {
    return find(call, OBJECT_LAYOUT, held, what);
}

lt_preference *find_preference(const char *call, cublasLtMatmulPreference_t held) {
    return find(call, OBJECT_PREFERENCE, held, a_preference);
}

// ---- attributes ---------------------------------------------------------------------------------

enum { NOT_SERVED = -1 };

typedef struct attribute {
    int id;
    const char *name;
    size_t bytes;
    ptrdiff_t at; // in the object, or NOT_SERVED
} attribute;

#define OPERATION(name, field)                                                                     \
    {                                                                                              \
        CUBLASLT_MATMUL_DESC_##name, #name, sizeof((lt_operation *)0)->field,                      \
            offsetof(lt_operation, field)                                                          \
    }
#define OPERATION_LACKS(name, bytes)                                                               \
    { CUBLASLT_MATMUL_DESC_##name, #name, bytes, NOT_SERVED }
static const attribute operation_attributes[] = {
    OPERATION(COMPUTE_TYPE, compute_type),
    OPERATION(SCALE_TYPE, scale_type),
    OPERATION(POINTER_MODE, pointer_mode),
    OPERATION(TRANSA, op_a),
    OPERATION(TRANSB, op_b),
    OPERATION(TRANSC, op_c),
    OPERATION(FILL_MODE, fill_mode),
    OPERATION(EPILOGUE, epilogue),
    OPERATION_LACKS(BIAS_POINTER, 8),
    OPERATION_LACKS(BIAS_BATCH_STRIDE, 8),
    OPERATION_LACKS(EPILOGUE_AUX_POINTER, 8),
    OPERATION_LACKS(EPILOGUE_AUX_LD, 8),
    OPERATION_LACKS(EPILOGUE_AUX_BATCH_STRIDE, 8),
    OPERATION_LACKS(ALPHA_VECTOR_BATCH_STRIDE, 8),
    OPERATION_LACKS(SM_COUNT_TARGET, 4),
    OPERATION_LACKS(A_SCALE_POINTER, 8),
    OPERATION_LACKS(B_SCALE_POINTER, 8),
    OPERATION_LACKS(C_SCALE_POINTER, 8),
    OPERATION_LACKS(D_SCALE_POINTER, 8),
    OPERATION_LACKS(AMAX_D_POINTER, 8),
    OPERATION_LACKS(EPILOGUE_AUX_DATA_TYPE, 4),
    OPERATION_LACKS(EPILOGUE_AUX_SCALE_POINTER, 8),
    OPERATION_LACKS(EPILOGUE_AUX_AMAX_POINTER, 8),
    OPERATION_LACKS(FAST_ACCUM, 1),
    OPERATION_LACKS(BIAS_DATA_TYPE, 4),
};

#define LAYOUT(name, field)                                                                        \
    {                                                                                              \
        CUBLASLT_MATRIX_LAYOUT_##name, #name, sizeof((lt_layout *)0)->field,                       \
            offsetof(lt_layout, field)                                                             \
    }
static const attribute layout_attributes[] = {
    LAYOUT(TYPE, type),
    LAYOUT(ORDER, order),
    LAYOUT(ROWS, rows),
    LAYOUT(COLS, columns),
    LAYOUT(LD, ld),
    LAYOUT(BATCH_COUNT, batch),
    LAYOUT(STRIDED_BATCH_OFFSET, batch_stride),
    LAYOUT(PLANE_OFFSET, plane_offset),
    // CUBLASLT_MATRIX_LAYOUT_BATCH_MODE: the headers of CUDA 12 do not have it
    {8, "BATCH_MODE", sizeof((lt_layout *)0)->batch_mode, offsetof(lt_layout, batch_mode)},
};

#define PREFERENCE(name, field)                                                                    \
    {                                                                                              \
        CUBLASLT_MATMUL_PREF_##name, #name, sizeof((lt_preference *)0)->field,                     \
            offsetof(lt_preference, field)                                                         \
    }
static const attribute preference_attributes[] = {
    PREFERENCE(SEARCH_MODE, search_mode),
    PREFERENCE(MAX_WORKSPACE_BYTES, max_workspace_bytes),
    PREFERENCE(REDUCTION_SCHEME_MASK, reductions),
    PREFERENCE(MIN_ALIGNMENT_A_BYTES, alignment[MATRIX_A]),
    PREFERENCE(MIN_ALIGNMENT_B_BYTES, alignment[MATRIX_B]),
    PREFERENCE(MIN_ALIGNMENT_C_BYTES, alignment[MATRIX_C]),
    PREFERENCE(MIN_ALIGNMENT_D_BYTES, alignment[MATRIX_D]),
    {CUBLASLT_MATMUL_PREF_MAX_WAVES_COUNT, "MAX_WAVES_COUNT", 4, NOT_SERVED},
    {CUBLASLT_MATMUL_PREF_IMPL_MASK, "IMPL_MASK", 8, NOT_SERVED},
};
#define COUNT(array) (int)(sizeof(array) / sizeof *(array))

static cublasStatus_t set(const char *call, const attribute *table, int count, void *object, int id,
                          const void *value, size_t bytes) {
    const attribute *a = NULL;
    for (int i = 0; i < count; i++)
        if (table[i].id == id) a = &table[i];
    if (!a) return REFUSE(call, CUBLAS_STATUS_INVALID_VALUE, "there is no attribute %d", id);
    if (!value) return REFUSE(call, CUBLAS_STATUS_INVALID_VALUE, "%s: the value is NULL", a->name);
    if (bytes != a->bytes)
        return REFUSE(call, CUBLAS_STATUS_INVALID_VALUE, "%s has %zu bytes, not %zu", a->name,
                      a->bytes, bytes);
    if (a->at == NOT_SERVED)
        return REFUSE(call, CUBLAS_STATUS_NOT_SUPPORTED, "%s is not served here", a->name);
    memcpy((char *)object + a->at, value, bytes);
    return CUBLAS_STATUS_SUCCESS;
}

// ---- the calls ----------------------------------------------------------------------------------

static cublasStatus_t hand_out(const char *call, void *object, void **out) {
    if (!object) return REFUSE(call, CUBLAS_STATUS_ALLOC_FAILED, "no memory");
    *out = object;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtCreate(cublasLtHandle_t *out) {
    ENTER("cublasLtCreate");
    if (!out) return REFUSE("cublasLtCreate", CUBLAS_STATUS_INVALID_VALUE, "no place for it");
    lt_handle handle = {0};
    if (cuCtxGetCurrent(&handle.context) != CUDA_SUCCESS || !handle.context)
        return REFUSE("cublasLtCreate", CUBLAS_STATUS_NOT_INITIALIZED, "no context is current");
    return hand_out("cublasLtCreate", make(OBJECT_HANDLE, &handle, sizeof handle), (void **)out);
}

// NULL is refused here, and freed in silence by the other three: so does the library.
cublasStatus_t cublasLtDestroy(cublasLtHandle_t held) {
    ENTER("cublasLtDestroy");
    return destroy("cublasLtDestroy", OBJECT_HANDLE, held, a_handle) ? CUBLAS_STATUS_SUCCESS
                                                                     : CUBLAS_STATUS_INVALID_VALUE;
}

static cublasStatus_t destroy_descriptor(const char *call, object_kind kind, const void *held,
                                         const char *what) {
    return !held || destroy(call, kind, held, what) ? CUBLAS_STATUS_SUCCESS
                                                    : CUBLAS_STATUS_INVALID_VALUE;
}

cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t *out, cublasComputeType_t compute_type,
                                        cudaDataType_t scale_type) {
    static const char call[] = "cublasLtMatmulDescCreate";
    ENTER(call);
    if (!out) return REFUSE(call, CUBLAS_STATUS_INVALID_VALUE, "no place for it");
    lt_operation operation = {.compute_type = compute_type,
                              .scale_type = scale_type,
                              .pointer_mode = CUBLASLT_POINTER_MODE_HOST,
                              .op_a = CUBLAS_OP_N,
                              .op_b = CUBLAS_OP_N,
                              .op_c = CUBLAS_OP_N,
                              .fill_mode = CUBLAS_FILL_MODE_FULL,
                              .epilogue = CUBLASLT_EPILOGUE_DEFAULT};
    return hand_out(call, make(OBJECT_OPERATION, &operation, sizeof operation), (void **)out);
}

cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t held) {
    ENTER("cublasLtMatmulDescDestroy");
    return destroy_descriptor("cublasLtMatmulDescDestroy", OBJECT_OPERATION, held, an_operation);
}

cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t held,
                                              cublasLtMatmulDescAttributes_t id, const void *value,
                                              size_t bytes) {
    static const char call[] = "cublasLtMatmulDescSetAttribute";
    ENTER(call);
    lt_operation *operation = find_operation(call, held);
    if (!operation) return CUBLAS_STATUS_INVALID_VALUE;
    return set(call, operation_attributes, COUNT(operation_attributes), operation, id, value,
               bytes);
}

cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t *out, cudaDataType type,
                                          uint64_t rows, uint64_t columns, int64_t ld) {
    static const char call[] = "cublasLtMatrixLayoutCreate";
    ENTER(call);
    if (!out) return REFUSE(call, CUBLAS_STATUS_INVALID_VALUE, "no place for it");
    lt_layout layout = {.type = type,
                        .order = CUBLASLT_ORDER_COL,
                        .rows = rows,
                        .columns = columns,
                        .ld = ld,
                        .batch = 1};
    return hand_out(call, make(OBJECT_LAYOUT, &layout, sizeof layout), (void **)out);
}

cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t held) {
    ENTER("cublasLtMatrixLayoutDestroy");
    return destroy_descriptor("cublasLtMatrixLayoutDestroy", OBJECT_LAYOUT, held, a_layout);
}

cublasStatus_t cublasLtMatrixLayoutSetAttribute(cublasLtMatrixLayout_t held,
                                                cublasLtMatrixLayoutAttribute_t id,
                                                const void *value, size_t bytes) {
    static const char call[] = "cublasLtMatrixLayoutSetAttribute";
    ENTER(call);
    lt_layout *layout = find_layout(call, held, a_layout);
    if (!layout) return CUBLAS_STATUS_INVALID_VALUE;
    return set(call, layout_attributes, COUNT(layout_attributes), layout, id, value, bytes);
}

cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t *out) {
    static const char call[] = "cublasLtMatmulPreferenceCreate";
    ENTER(call);
    if (!out) return REFUSE(call, CUBLAS_STATUS_INVALID_VALUE, "no place for it");
    lt_preference preference = {.search_mode = CUBLASLT_SEARCH_BEST_FIT,
                                .reductions = CUBLASLT_REDUCTION_SCHEME_MASK,
                                .alignment = {256, 256, 256, 256}};
    return hand_out(call, make(OBJECT_PREFERENCE, &preference, sizeof preference), (void **)out);
}

cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t held) {
    static const char call[] = "cublasLtMatmulPreferenceDestroy";
    ENTER(call);
    return destroy_descriptor(call, OBJECT_PREFERENCE, held, a_preference);
}

cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t held,
                                                    cublasLtMatmulPreferenceAttributes_t id,
                                                    const void *value, size_t bytes) {
    static const char call[] = "cublasLtMatmulPreferenceSetAttribute";
    ENTER(call);
    lt_preference *preference = find_preference(call, held);
    if (!preference) return CUBLAS_STATUS_INVALID_VALUE;
    return set(call, preference_attributes, COUNT(preference_attributes), preference, id, value,
               bytes);
}
