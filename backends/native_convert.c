#include "backends/native_convert.h"

#include <stdint.h>
#include "core/dtype.h"

#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>
#define AVX2 __attribute__((target("avx2,f16c")))

// Processors had F16C before they had AVX2; clang 14 cannot be asked for it by name.
static int has_avx2(void) {
    return __builtin_cpu_supports("avx2");
}

// Each handles a multiple of eight elements and returns how many that were.

AVX2 static size_t widen_f16(const uint16_t *from, float *to, size_t count) {
    size_t i = 0;
    for (; i + 8 <= count; i += 8) {
        __m128i half = _mm_loadu_si128((const __m128i *)(from + i));
        _mm256_storeu_ps(to + i, _mm256_cvtph_ps(half));
    }
    return i;
}

AVX2 static size_t narrow_f16(const float *from, uint16_t *to, size_t count) {
    size_t i = 0;
    for (; i + 8 <= count; i += 8) {
        __m256 x = _mm256_loadu_ps(from + i);
        _mm_storeu_si128((__m128i *)(to + i), _mm256_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT));
    }
    return i;
}

AVX2 static size_t widen_bf16(const uint16_t *from, float *to, size_t count) {
    size_t i = 0;
    for (; i + 8 <= count; i += 8) {
        __m256i x = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)(from + i)));
        _mm256_storeu_si256((__m256i *)(to + i), _mm256_slli_epi32(x, 16));
    }
    return i;
}

AVX2 static size_t narrow_bf16(const float *from, uint16_t *to, size_t count) {
    const __m256i half = _mm256_set1_epi32(0x7fff), one = _mm256_set1_epi32(1);
    const __m256i magnitude = _mm256_set1_epi32(0x7fffffff), quiet = _mm256_set1_epi32(0x40);
    const __m256i infinity = _mm256_set1_epi32(0x7f800000);
    size_t i = 0;
    for (; i + 8 <= count; i += 8) {
        __m256i bits = _mm256_loadu_si256((const __m256i *)(from + i));
        __m256i kept = _mm256_srli_epi32(bits, 16);
        __m256i bias = _mm256_add_epi32(half, _mm256_and_si256(kept, one));
        __m256i rounded = _mm256_srli_epi32(_mm256_add_epi32(bits, bias), 16);
        __m256i nan = _mm256_cmpgt_epi32(_mm256_and_si256(bits, magnitude), infinity);
        __m256i x = _mm256_blendv_epi8(rounded, _mm256_or_si256(kept, quiet), nan);
        // Packing works within halves of 128 bits: the permutation brings their parts together.
        x = _mm256_permute4x64_epi64(_mm256_packus_epi32(x, x), 0x08);
        _mm_storeu_si128((__m128i *)(to + i), _mm256_castsi256_si128(x));
    }
    return i;
}

static size_t widen_fast(brim_dtype dtype, const void *from, float *to, size_t count) {
    if (!has_avx2()) return 0;
    if (dtype == BRIM_F16) return widen_f16(from, to, count);
    return dtype == BRIM_BF16 ? widen_bf16(from, to, count) : 0;
}

static size_t narrow_fast(brim_dtype dtype, const float *from, void *to, size_t count) {
    if (!has_avx2()) return 0;
    if (dtype == BRIM_F16) return narrow_f16(from, to, count);
    return dtype == BRIM_BF16 ? narrow_bf16(from, to, count) : 0;
}
#else
static size_t widen_fast(brim_dtype dtype, const void *from, float *to, size_t count) {
    (void)dtype, (void)from, (void)to, (void)count;
    return 0;
}

static size_t narrow_fast(brim_dtype dtype, const float *from, void *to, size_t count) {
    (void)dtype, (void)from, (void)to, (void)count;
    return 0;
}
#endif

void native_widen(brim_dtype dtype, const void *from, float *to, size_t count) {
    size_t done = widen_fast(dtype, from, to, count);
    const char *rest = (const char *)from + done * brim_dtype_bytes(dtype);
    dtype_to_f32(dtype, rest, to + done, count - done);
}

void native_narrow(brim_dtype dtype, const float *from, void *to, size_t count) {
    size_t done = narrow_fast(dtype, from, to, count);
    char *rest = (char *)to + done * brim_dtype_bytes(dtype);
    dtype_from_f32(dtype, from + done, rest, count - done);
}
