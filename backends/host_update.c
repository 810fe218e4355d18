// Updates on the CPU: plain loops, which the compiler turns into vectors of the instruction set
// that HOST_VARIANT names. The arithmetic is that of kernels/optimizer.k, operation for operation.
#include <math.h>
#include <stddef.h>
#include <string.h>
#ifdef __SSE2__
#include <emmintrin.h>
#endif
#include "backends/host_variants.h"
#include "core/dtype.h"
#include "core/half.h"

#define JOIN_(a, b) a##b
#define JOIN(a, b) JOIN_(a, b)
#define INLINE static inline __attribute__((always_inline))

// Elements that are updated before their copies are made: lines of a cache, and so few that loads
// of the next ones run ahead meanwhile.
enum { BLOCK = 64 };

INLINE float argument_value(host_argument a) {
    return *(const float *)a.buffer;
}

// ---- compute copies -----------------------------------------------------------------------------

INLINE uint16_t select_u16(bool condition, uint32_t yes, uint32_t no) {
    return (uint16_t)(condition ? yes : no);
}

// As bf16_from_f32 of core/half.h, without a branch.
INLINE void round_bf16(uint16_t *restrict to, const float *restrict from, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        uint32_t bits = f32_bits(from[i]), quiet = bits | 0x400000;
        uint32_t rounded = bits + 0x7fff + (bits >> 16 & 1);
        to[i] = select_u16((bits & 0x7fffffff) > 0x7f800000, quiet >> 16, rounded >> 16);
    }
}

// As f16_from_f32 of core/half.h, without a branch.
INLINE void round_f16(uint16_t *restrict to, const float *restrict from, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        uint32_t bits = f32_bits(from[i]), sign = bits >> 16 & 0x8000, a = bits & 0x7fffffff;
        uint32_t tiny = f32_bits(f32_from_bits(a) + 0.5f) - 0x3f000000;
        uint32_t half = (a + 0xc8000fff + (a >> 13 & 1)) >> 13;
        half = a < 0x38800000 ? tiny : half;
        half = a >= 0x47800000 ? 0x7c00 : half;
        half = a > 0x7f800000 ? (a >> 13 & 0x3ff) | 0x7e00 : half;
        to[i] = (uint16_t)(half | sign);
    }
}

INLINE void round_copy(brim_dtype dtype, uint16_t *to, const float *from, int64_t n) {
    if (dtype == BRIM_BF16) round_bf16(to, from, n);
    if (dtype == BRIM_F16) round_f16(to, from, n);
}

// A copy is written only: past the caches, where its lines need not be read first.
#ifdef __SSE2__
INLINE bool may_stream(const uint16_t *to) {
    return (uintptr_t)to % sizeof(__m128i) == 0;
}
INLINE void stream_block(uint16_t *to, const uint16_t *from) {
    for (int i = 0; i < BLOCK; i += sizeof(__m128i) / sizeof *to)
        _mm_stream_si128((__m128i *)(to + i), _mm_load_si128((const __m128i *)(from + i)));
}
INLINE void end_stream(void) {
    _mm_sfence();
}
#else
INLINE bool may_stream(const uint16_t *to) {
    (void)to;
    return false;
}
INLINE void stream_block(uint16_t *to, const uint16_t *from) {
    memcpy(to, from, BLOCK * sizeof *to);
}
INLINE void end_stream(void) {}
#endif

INLINE void put_copy(brim_dtype dtype, uint16_t *to, const float *from, int64_t n) {
    if (n == BLOCK && may_stream(to)) {
        _Alignas(64) uint16_t rounded[BLOCK];
        round_copy(dtype, rounded, from, BLOCK);
        stream_block(to, rounded);
    } else {
        round_copy(dtype, to, from, n);
    }
}

// ---- AdamW --------------------------------------------------------------------------------------

typedef struct adamw_factors {
    float scale, one_minus_beta1, beta2, one_minus_beta2, rate, root_c2, eps, shrink;
} adamw_factors;

INLINE void adamw_block(float *restrict p, float *restrict m, float *restrict v,
                        const float *restrict g, const adamw_factors *f, int64_t n) {
    const adamw_factors k = *f;
    for (int64_t i = 0; i < n; i++) {
        float gi = g[i] * k.scale;
        float mi = fmaf(k.one_minus_beta1, gi - m[i], m[i]);
        float vi = fmaf(gi * k.one_minus_beta2, gi, v[i] * k.beta2);
        p[i] = fmaf(-k.rate, mi / (sqrtf(vi) / k.root_c2 + k.eps), p[i] * k.shrink);
        m[i] = mi;
        v[i] = vi;
    }
}

// p, m, v, (copy), g, scale, lr, c1, c2, keep, count, 1 - beta1, beta2, 1 - beta2, eps, decay,
// lr_scale; copies: BRIM_F32 where there is none.
INLINE void adamw(const host_argument *argument, int64_t first, int64_t count, brim_dtype copies) {
    const host_argument *rest = argument + (copies == BRIM_F32 ? 3 : 4);
    if (argument_value(rest[5]) == 0) return;
    float lr = argument_value(rest[2]) * rest[12].f32, decay = rest[11].f32;
    const adamw_factors f = {.scale = argument_value(rest[1]),
                             .one_minus_beta1 = rest[7].f32,
                             .beta2 = rest[8].f32,
                             .one_minus_beta2 = rest[9].f32,
                             .rate = lr / argument_value(rest[3]),
                             .root_c2 = sqrtf(argument_value(rest[4])),
                             .eps = rest[10].f32,
                             .shrink = fmaf(-lr, decay, 1.0f)};
    float *p = argument[0].buffer, *m = argument[1].buffer, *v = argument[2].buffer;
    const float *g = rest[0].buffer;
    for (int64_t i = first, end = first + count; i < end; i += BLOCK) {
        int64_t n = end - i < BLOCK ? end - i : BLOCK;
        adamw_block(p + i, m + i, v + i, g + i, &f, n);
        if (copies != BRIM_F32) put_copy(copies, (uint16_t *)argument[3].buffer + i, p + i, n);
    }
    end_stream();
}

// ---- SGD ----------------------------------------------------------------------------------------

typedef struct sgd_factors {
    float scale, momentum, decay, lr;
} sgd_factors;

INLINE void sgd_block(float *restrict p, float *restrict m, const float *restrict g,
                      const sgd_factors *f, int64_t n) {
    const sgd_factors k = *f;
    for (int64_t i = 0; i < n; i++) {
        float mi = fmaf(m[i], k.momentum, fmaf(p[i], k.decay, g[i] * k.scale));
        p[i] = fmaf(-k.lr, mi, p[i]);
        m[i] = mi;
    }
}

// p, m, (copy), g, scale, lr, keep, count, momentum, decay, lr_scale.
INLINE void sgd(const host_argument *argument, int64_t first, int64_t count, brim_dtype copies) {
    const host_argument *rest = argument + (copies == BRIM_F32 ? 2 : 3);
    if (argument_value(rest[3]) == 0) return;
    const sgd_factors f = {.scale = argument_value(rest[1]),
                           .momentum = rest[5].f32,
                           .decay = rest[6].f32,
                           .lr = argument_value(rest[2]) * rest[7].f32};
    float *p = argument[0].buffer, *m = argument[1].buffer;
    const float *g = rest[0].buffer;
    for (int64_t i = first, end = first + count; i < end; i += BLOCK) {
        int64_t n = end - i < BLOCK ? end - i : BLOCK;
        sgd_block(p + i, m + i, g + i, &f, n);
        if (copies != BRIM_F32) put_copy(copies, (uint16_t *)argument[2].buffer + i, p + i, n);
    }
    end_stream();
}

// ---- sums over micro-batches --------------------------------------------------------------------

static void accumulate(const host_argument *argument, int64_t first, int64_t count) {
    float *restrict sum = (float *)argument[0].buffer + first;
    const float *restrict x = (const float *)argument[1].buffer + first;
    for (int64_t i = 0; i < count; i++) sum[i] += x[i];
}

static void assign(const host_argument *argument, int64_t first, int64_t count) {
    memcpy((float *)argument[0].buffer + first, (const float *)argument[1].buffer + first,
           (size_t)count * sizeof(float));
}

// ---- the table ----------------------------------------------------------------------------------

#define UPDATE(update, suffix, dtype)                                                              \
    static void update##suffix(const host_argument *argument, int64_t first, int64_t count) {      \
        update(argument, first, count, dtype);                                                     \
    }
UPDATE(adamw, _f32, BRIM_F32)
UPDATE(adamw, _bf16, BRIM_BF16)
UPDATE(adamw, _f16, BRIM_F16)
UPDATE(sgd, _f32, BRIM_F32)
UPDATE(sgd, _bf16, BRIM_BF16)
UPDATE(sgd, _f16, BRIM_F16)

const host_kernel JOIN(host_kernels_, HOST_VARIANT)[] = {
    {"adamw", 9, adamw_f32},       {"adamw_bf16", 10, adamw_bf16}, {"adamw_f16", 10, adamw_f16},
    {"sgd", 6, sgd_f32},           {"sgd_bf16", 7, sgd_bf16},      {"sgd_f16", 7, sgd_f16},
    {"accumulate", 2, accumulate}, {"assign", 2, assign},          {NULL, 0, NULL},
};
