// Element types of tensors.
#ifndef BRIM_DTYPE_H
#define BRIM_DTYPE_H

#include <stddef.h>
#include <stdint.h>
#include <brim/export.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { BRIM_MAX_DIMS = 6 };

// X(enumerator, name as printed and as kernels spell it, bytes, safetensors name, meaning).
// Storage only: arithmetic on f16 and bf16 is done in f32 and rounded to nearest even when stored.
#define BRIM_DTYPE_LIST(X)                                                                         \
    X(F32, f32, 4, "F32", "IEEE binary32")                                                         \
    X(F16, f16, 2, "F16", "IEEE binary16")                                                         \
    X(BF16, bf16, 2, "BF16", "upper half of binary32")                                             \
    X(I32, i32, 4, "I32", "32-bit integer: tokens, labels, segment numbers")

typedef enum brim_dtype {
#define X(id, name, bytes, safetensors, meaning) BRIM_##id,
    BRIM_DTYPE_LIST(X)
#undef X
} brim_dtype;

enum { BRIM_DTYPE_COUNT = BRIM_I32 + 1 };

BRIM_API const char *brim_dtype_name(brim_dtype dtype);
BRIM_API size_t brim_dtype_bytes(brim_dtype dtype);

#ifdef __cplusplus
}
#endif
#endif
