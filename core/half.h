// f16 (IEEE binary16) and bf16 (the upper half of binary32) to f32 and back, bit for bit as
// hardware does it: round to nearest, ties to even; overflow to infinity; subnormals kept; a NaN
// stays a NaN of the same sign, made quiet, with the upper bits of its payload.
#ifndef BRIM_CORE_HALF_H
#define BRIM_CORE_HALF_H

#include <stdint.h>
#include <string.h>

static inline uint32_t f32_bits(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static inline float f32_from_bits(uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static inline float bf16_to_f32(uint16_t bits) {
    return f32_from_bits((uint32_t)bits << 16);
}

static inline uint16_t bf16_from_f32(float value) {
    uint32_t bits = f32_bits(value);
    if ((bits & 0x7fffffff) > 0x7f800000) return (uint16_t)(bits >> 16 | 0x0040);
    // Half a unit, less one where the kept part is even: a carry then rounds up, into the exponent
    // where it must.
    bits += 0x7fff + (bits >> 16 & 1);
    return (uint16_t)(bits >> 16);
}

static inline float f16_to_f32(uint16_t half) {
    uint32_t sign = (uint32_t)(half & 0x8000) << 16;
    uint32_t exponent = half >> 10 & 0x1f;
    uint32_t fraction = half & 0x3ff;
    if (exponent == 31) {
        uint32_t quiet = fraction ? 0x00400000 : 0;
        return f32_from_bits(sign | 0x7f800000 | quiet | fraction << 13);
    }
    if (exponent == 0) { // zero or subnormal: fraction units of 2^-24, exact in f32
        float magnitude = (float)fraction * 0x1p-24f;
        return f32_from_bits(sign | f32_bits(magnitude));
    }
    return f32_from_bits(sign | (exponent + 112) << 23 | fraction << 13);
}

static inline uint16_t f16_from_f32(float value) {
    uint32_t bits = f32_bits(value);
    uint16_t sign = (uint16_t)(bits >> 16 & 0x8000);
    uint32_t magnitude = bits & 0x7fffffff;
    if (magnitude > 0x7f800000) return (uint16_t)(sign | 0x7e00 | (magnitude >> 13 & 0x3ff));
    if (magnitude >= 0x47800000) return (uint16_t)(sign | 0x7c00); // 2^16 and more, infinity
    if (magnitude < 0x38800000) { // below 2^-14: a subnormal, in units of 2^-24
        // Adding 0.5, whose unit in the last place is 2^-24, makes the addition do the rounding.
        uint32_t sum = f32_bits(f32_from_bits(magnitude) + 0.5f);
        return (uint16_t)(sign | (sum - 0x3f000000));
    }
    // The exponent is rebased by 15 - 127; a carry out of the fraction runs into it, up to
    // infinity.
    magnitude += 0xfff + (magnitude >> 13 & 1);
    return (uint16_t)(sign | ((magnitude >> 13) - (112u << 10)));
}

#endif
