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
#include "graph/graph.h"

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

// From g, scale, lr, c1, c2, keep, count, 1 - beta1, beta2, 1 - beta2, eps, decay, lr_scale.
INLINE adamw_factors adamw_factors_of(const host_argument *argument) {
    float lr = argument_value(argument[2]) * argument[12].f32, decay = argument[11].f32;
    return (adamw_factors){.scale = argument_value(argument[1]),
                           .one_minus_beta1 = argument[7].f32,
                           .beta2 = argument[8].f32,
                           .one_minus_beta2 = argument[9].f32,
                           .rate = lr / argument_value(argument[3]),
                           .root_c2 = sqrtf(argument_value(argument[4])),
                           .eps = argument[10].f32,
                           .shrink = fmaf(-lr, decay, 1.0f)};
}

INLINE void adamw_element(float *p, float *m, float *v, float g, const adamw_factors *f) {
    g = g * f->scale;
    *m = fmaf(f->one_minus_beta1, g - *m, *m);
    *v = fmaf(g * f->one_minus_beta2, g, *v * f->beta2);
    *p = fmaf(-f->rate, *m / (sqrtf(*v) / f->root_c2 + f->eps), *p * f->shrink);
}

INLINE void adamw_block(float *restrict p, float *restrict m, float *restrict v,
                        const float *restrict g, const adamw_factors *f, int64_t n) {
    const adamw_factors k = *f;
    for (int64_t i = 0; i < n; i++) {
        float pi = p[i], mi = m[i], vi = v[i];
        adamw_element(&pi, &mi, &vi, g[i], &k);
        p[i] = pi;
        m[i] = mi;
        v[i] = vi;
    }
}

// p, m, v, (copy), g, scale, lr, c1, c2, keep, count, 1 - beta1, beta2, 1 - beta2, eps, decay,
// lr_scale; copies: BRIM_F32 where there is none.
INLINE void adamw(const host_argument *argument, int64_t first, int64_t count, brim_dtype copies) {
    const host_argument *rest = argument + (copies == BRIM_F32 ? 3 : 4);
    if (argument_value(rest[5]) == 0) return;
    const adamw_factors f = adamw_factors_of(rest);
    float *p = argument[0].buffer, *m = argument[1].buffer, *v = argument[2].buffer;
    const float *g = rest[0].buffer;
    for (int64_t i = first, end = first + count; i < end; i += BLOCK) {
        int64_t n = end - i < BLOCK ? end - i : BLOCK;
        adamw_block(p + i, m + i, v + i, g + i, &f, n);
        if (copies != BRIM_F32) put_copy(copies, (uint16_t *)argument[3].buffer + i, p + i, n);
    }
    end_stream();
}

// ---- AdamW with states as 8-bit blocks ----------------------------------------------------------

// What a code means and why stands in kernels/optimizer.k.
enum { LEVELS = 8 };
static const float tree_slope[LEVELS] = {142.222222f, 711.111111f, 3555.55556f, 17777.7778f,
                                         88888.8889f, 444444.444f, 2222222.22f, 11111111.1f};
static const float tree_start[LEVELS] = {113.777778f, 56.8888889f, 28.4444444f, 14.2222222f,
                                         7.11111111f, 3.55555556f, 1.77777778f, 0.888888889f};
static const float value_slope[LEVELS] = {0.00703125f, 0.00140625f, 0.00028125f, 5.625e-5f,
                                          1.125e-5f,   2.25e-6f,    4.5e-7f,     9e-8f};
static const float value_start[LEVELS] = {-0.8f,  -0.08f, -0.008f, -8e-4f,
                                          -8e-5f, -8e-6f, -8e-7f,  -8e-8f};

INLINE float tree(float y, int levels) {
    float t = 255.5f;
    for (int i = 0; i < levels; i++) {
        float u = fmaf(y, tree_slope[i], tree_start[i]);
        t = u < t ? u : t;
    }
    return t;
}

INLINE float tree_value(float x, int levels) {
    float y = 0;
    for (int i = 0; i < levels; i++) {
        float u = fmaf(x, value_slope[i], value_start[i]);
        y = u > y ? u : y;
    }
    return y;
}

INLINE float decode_m(uint32_t code, float scale) {
    float y = tree_value((float)(int32_t)((code & 127) * 2 + 1), LEVELS - 1) * scale;
    return f32_from_bits(f32_bits(y) | (code & 128) << 24);
}

INLINE float decode_v(uint32_t code, float scale) {
    return tree_value((float)(int32_t)code + 0.5f, LEVELS) * scale;
}

INLINE uint32_t encode_m(float m, float per_scale) {
    float t = tree(fabsf(m) * per_scale, LEVELS - 1);
    return (uint32_t)(int32_t)(t * 0.5f) | (f32_bits(m) >> 24 & 128);
}

INLINE uint32_t encode_v(float v, float per_scale) {
    float t = tree(v * per_scale, LEVELS), least = v > 0 ? 1.0f : 0.0f;
    return (uint32_t)(int32_t)(t > least ? t : least);
}

INLINE float block_scale(float most, float factor) {
    return most < 0x1p-100f ? 0 : most * factor;
}

// The two states' codes and scales of one block.
typedef struct q8_block {
    uint32_t *m, *v;
    float *m_scale, *v_scale;
} q8_block;

INLINE void decode_block(float *restrict to, const uint32_t *restrict words, float scale,
                         float (*decode)(uint32_t, float)) {
    for (int j = 0; j < 4; j++)
        for (int w = 0; w < STATE_BLOCK_WORDS; w++)
            to[j * STATE_BLOCK_WORDS + w] = decode(words[w] >> 8 * j & 255, scale);
}

INLINE void encode_block(uint32_t *restrict words, const float *restrict from, float scale,
                         uint32_t (*encode)(float, float)) {
    float per_scale = scale > 0 ? 1 / scale : 0;
    for (int w = 0; w < STATE_BLOCK_WORDS; w++) {
        uint32_t word = 0;
        for (int j = 0; j < 4; j++)
            word |= encode(from[j * STATE_BLOCK_WORDS + w], per_scale) << 8 * j;
        words[w] = word;
    }
}

// The largest magnitude; a NaN where there is one, since its bits are above those of infinity.
INLINE float most_of_block(const float *x) {
    uint32_t most = 0;
    for (int i = 0; i < STATE_BLOCK; i++) {
        uint32_t bits = f32_bits(x[i]) & 0x7fffffff;
        most = bits > most ? bits : most;
    }
    return f32_from_bits(most);
}

// p and g have all elements of a block; the tensor has its first n.
INLINE void adamw_q8_block(float *restrict p, const float *restrict g, int64_t n, const q8_block *b,
                           const adamw_factors *f) {
    _Alignas(64) float m[STATE_BLOCK], v[STATE_BLOCK];
    decode_block(m, b->m, *b->m_scale, decode_m);
    decode_block(v, b->v, *b->v_scale, decode_v);
    adamw_block(p, m, v, g, f, STATE_BLOCK);
    for (int64_t i = n; i < STATE_BLOCK; i++) m[i] = v[i] = 0;
    *b->m_scale = block_scale(most_of_block(m), 1.00708103f);
    *b->v_scale = block_scale(most_of_block(v), 1.00352803f);
    encode_block(b->m, m, *b->m_scale, encode_m);
    encode_block(b->v, v, *b->v_scale, encode_v);
}

// The last block of a tensor; g has all elements of it.
INLINE void adamw_q8_rest(float *p, const float *g, int64_t n, const q8_block *b,
                          const adamw_factors *f) {
    float p_all[STATE_BLOCK] = {0};
    memcpy(p_all, p, (size_t)n * sizeof *p);
    adamw_q8_block(p_all, g, n, b, f);
    memcpy(p, p_all, (size_t)n * sizeof *p);
}

// n elements of a gradient from element i on, and zeros up to a whole block: where they lie, if that
// is so already, else in `room`.
INLINE const float *gradient_block(const void *gradient, brim_dtype dtype, int64_t i, int64_t n,
                                   float room[STATE_BLOCK]) {
    const uint16_t *halves = (const uint16_t *)gradient + i;
    const float *whole = (const float *)gradient + i;
    if (dtype == BRIM_F32 && n == STATE_BLOCK) return whole;
    if (n < STATE_BLOCK) memset(room, 0, STATE_BLOCK * sizeof *room);
    if (dtype == BRIM_F32) memcpy(room, whole, (size_t)n * sizeof *room);
    for (int64_t k = 0; dtype == BRIM_BF16 && k < n; k++)
        room[k] = f32_from_bits((uint32_t)halves[k] << 16);
    return room;
}

// p, m codes, m scales, v codes, v scales, (copy), and as adamw from g on. Blocks belong to the
// piece that has their first element.
INLINE void adamw_q8(const host_argument *argument, int64_t first, int64_t count, brim_dtype copies,
                     brim_dtype gradients) {
    const host_argument *rest = argument + (copies == BRIM_F32 ? 5 : 6);
    if (argument_value(rest[5]) == 0) return;
    const adamw_factors f = adamw_factors_of(rest);
    float *p = argument[0].buffer;
    for (int64_t block = state_blocks(first); block * STATE_BLOCK < first + count; block++) {
        _Alignas(64) float room[STATE_BLOCK];
        int64_t i = block * STATE_BLOCK, left = rest[6].i64 - i;
        int64_t n = left < STATE_BLOCK ? left : STATE_BLOCK;
        const float *g = gradient_block(rest[0].buffer, gradients, i, n, room);
        q8_block b = {(uint32_t *)argument[1].buffer + block * STATE_BLOCK_WORDS,
                      (uint32_t *)argument[3].buffer + block * STATE_BLOCK_WORDS,
                      (float *)argument[2].buffer + block, (float *)argument[4].buffer + block};
        if (n == STATE_BLOCK)
            adamw_q8_block(p + i, g, n, &b, &f);
        else
            adamw_q8_rest(p + i, g, n, &b, &f);
        for (int64_t k = 0; copies != BRIM_F32 && k < n; k += BLOCK)
            put_copy(copies, (uint16_t *)argument[5].buffer + i + k, p + i + k,
                     n - k < BLOCK ? n - k : BLOCK);
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

#define UPDATE(update, suffix, ...)                                                                \
    static void update##suffix(const host_argument *argument, int64_t first, int64_t count) {      \
        update(argument, first, count, __VA_ARGS__);                                               \
    }
UPDATE(adamw, _f32, BRIM_F32)
UPDATE(adamw, _bf16, BRIM_BF16)
UPDATE(adamw, _f16, BRIM_F16)
UPDATE(adamw_q8, _f32, BRIM_F32, BRIM_F32)
UPDATE(adamw_q8, _bf16, BRIM_BF16, BRIM_F32)
UPDATE(adamw_q8, _f16, BRIM_F16, BRIM_F32)
UPDATE(adamw_q8, _f32_from_bf16, BRIM_F32, BRIM_BF16)
UPDATE(adamw_q8, _bf16_from_bf16, BRIM_BF16, BRIM_BF16)
UPDATE(adamw_q8, _f16_from_bf16, BRIM_F16, BRIM_BF16)
UPDATE(sgd, _f32, BRIM_F32)
UPDATE(sgd, _bf16, BRIM_BF16)
UPDATE(sgd, _f16, BRIM_F16)

const host_kernel JOIN(host_kernels_, HOST_VARIANT)[] = {
    {"adamw", 9, adamw_f32},
    {"adamw_bf16", 10, adamw_bf16},
    {"adamw_f16", 10, adamw_f16},
    {"adamw_q8", 11, adamw_q8_f32},
    {"adamw_q8_bf16", 12, adamw_q8_bf16},
    {"adamw_q8_f16", 12, adamw_q8_f16},
    {"adamw_q8_from_bf16", 11, adamw_q8_f32_from_bf16},
    {"adamw_q8_bf16_from_bf16", 12, adamw_q8_bf16_from_bf16},
    {"adamw_q8_f16_from_bf16", 12, adamw_q8_f16_from_bf16},
    {"sgd", 6, sgd_f32},
    {"sgd_bf16", 7, sgd_bf16},
    {"sgd_f16", 7, sgd_f16},
    {"accumulate", 2, accumulate},
    {"assign", 2, assign},
    {NULL, 0, NULL},
};
