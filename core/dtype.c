#include "core/dtype.h"

#include <string.h>
#include "core/half.h"

typedef struct dtype_row {
    const char *name;
    size_t bytes;
    const char *safetensors;
} dtype_row;

static const dtype_row rows[BRIM_DTYPE_COUNT] = {
#define X(id, name, bytes, safetensors, meaning) [BRIM_##id] = {#name, bytes, safetensors},
    BRIM_DTYPE_LIST(X)
#undef X
};

static const dtype_row unknown = {"unknown", 0, "unknown"};

static const dtype_row *row_of(brim_dtype dtype) {
    return (unsigned)dtype < BRIM_DTYPE_COUNT ? &rows[dtype] : &unknown;
}

const char *brim_dtype_name(brim_dtype dtype) {
    return row_of(dtype)->name;
}

size_t brim_dtype_bytes(brim_dtype dtype) {
    return row_of(dtype)->bytes;
}

const char *dtype_safetensors_name(brim_dtype dtype) {
    return row_of(dtype)->safetensors;
}

bool dtype_from_name(const char *name, brim_dtype *dtype) {
    for (int i = 0; i < BRIM_DTYPE_COUNT; i++) {
        if (strcmp(rows[i].name, name) != 0) continue;
        *dtype = (brim_dtype)i;
        return true;
    }
    return false;
}

bool dtype_is_float(brim_dtype dtype) {
    return dtype == BRIM_F32 || dtype == BRIM_F16 || dtype == BRIM_BF16;
}

static int32_t i32_from_f32(float value) {
    if (!(value >= -0x1p31f)) return value < 0 ? INT32_MIN : 0; // too small, or NaN
    return value >= 0x1p31f ? INT32_MAX : (int32_t)value;
}

// Elements are moved by memcpy, since a file's tensors may lie at any address.
#define WIDEN(type, expression)                                                                    \
    for (size_t i = 0; i < count; i++) {                                                           \
        type stored;                                                                               \
        memcpy(&stored, (const char *)from + i * sizeof stored, sizeof stored);                    \
        to[i] = (expression);                                                                      \
    }

#define NARROW(type, expression)                                                                   \
    for (size_t i = 0; i < count; i++) {                                                           \
        type stored = (expression);                                                                \
        memcpy((char *)to + i * sizeof stored, &stored, sizeof stored);                            \
    }

void dtype_to_f32(brim_dtype dtype, const void *from, float *to, size_t count) {
    switch (dtype) {
    case BRIM_F32:
        memmove(to, from, count * sizeof *to);
        break;
    case BRIM_F16:
        WIDEN(uint16_t, f16_to_f32(stored));
        break;
    case BRIM_BF16:
        WIDEN(uint16_t, bf16_to_f32(stored));
        break;
    case BRIM_I32:
        WIDEN(int32_t, (float)stored);
        break;
    }
}

void dtype_from_f32(brim_dtype dtype, const float *from, void *to, size_t count) {
    switch (dtype) {
    case BRIM_F32:
        memmove(to, from, count * sizeof *from);
        break;
    case BRIM_F16:
        NARROW(uint16_t, f16_from_f32(from[i]));
        break;
    case BRIM_BF16:
        NARROW(uint16_t, bf16_from_f32(from[i]));
        break;
    case BRIM_I32:
        NARROW(int32_t, i32_from_f32(from[i]));
        break;
    }
}
