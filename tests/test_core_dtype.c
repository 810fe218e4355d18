// f16 and bf16 are compared with a reference that shares nothing with core/half.h: values are built
// with ldexp, and rounding is a search for the nearest of all representable values.
#include <math.h>
#include <stdint.h>
#include "core/dtype.h"
#include "core/half.h"
#include "core/philox.h"
#include "test_core.h"

typedef struct format {
    int exponent_bits, fraction_bits;
} format;

static const format f16 = {5, 10}, bf16 = {8, 7};

static int bias_of(format f) {
    return (1 << (f.exponent_bits - 1)) - 1;
}

static bool is_nan_pattern(format f, uint32_t bits) {
    uint32_t infinity = ((1u << f.exponent_bits) - 1) << f.fraction_bits;
    return (bits & 0x7fff) > infinity;
}

// The value of a pattern that is not a NaN. Infinity counts as the next power of two, which is how
// rounding sees it.
static double value_of(format f, uint32_t bits) {
    int exponent = (int)(bits >> f.fraction_bits) & ((1 << f.exponent_bits) - 1);
    int fraction = (int)(bits & ((1u << f.fraction_bits) - 1));
    double magnitude = exponent == 0 ? ldexp(fraction, 1 - bias_of(f) - f.fraction_bits)
                                     : ldexp((1 << f.fraction_bits) + fraction,
                                             exponent - bias_of(f) - f.fraction_bits);
    return bits & 0x8000 ? -magnitude : magnitude;
}

// Nearest pattern by bisection over the non-negative patterns, whose values ascend; ties to the
// even pattern.
static uint16_t nearest(format f, float value) {
    uint32_t infinity = ((1u << f.exponent_bits) - 1) << f.fraction_bits;
    uint16_t sign = signbit(value) ? 0x8000 : 0;
    double magnitude = fabs((double)value);
    uint32_t low = 0, high = infinity;
    if (magnitude >= value_of(f, infinity)) return (uint16_t)(sign | infinity);
    while (high - low > 1) {
        uint32_t middle = (low + high) / 2;
        if (value_of(f, middle) <= magnitude)
            low = middle;
        else
            high = middle;
    }
    double below = magnitude - value_of(f, low), above = value_of(f, high) - magnitude;
    uint32_t chosen = below < above || (below == above && low % 2 == 0) ? low : high;
    return (uint16_t)(sign | chosen);
}

START_TEST(every_f16_widens_exactly) {
    for (uint32_t bits = 0; bits < 0x10000; bits++) {
        float value = f16_to_f32((uint16_t)bits);
        if (is_nan_pattern(f16, bits)) {
            ASSERT_QUICKLY(isnan(value));
            ASSERT_QUICKLY((signbit(value) != 0) == bits >> 15);
            ASSERT_QUICKLY(f16_from_f32(value) == (bits | 0x0200));
            continue;
        }
        if ((bits & 0x7fff) == 0x7c00)
            ASSERT_QUICKLY(isinf(value));
        else
            ASSERT_QUICKLY(value == value_of(f16, bits));
        ASSERT_QUICKLY((signbit(value) != 0) == bits >> 15);
        ASSERT_QUICKLY(f16_from_f32(value) == bits);
    }
}
END_TEST

START_TEST(every_bf16_widens_exactly) {
    for (uint32_t bits = 0; bits < 0x10000; bits++) {
        float value = bf16_to_f32((uint16_t)bits);
        if (is_nan_pattern(bf16, bits)) {
            ASSERT_QUICKLY(isnan(value));
            ASSERT_QUICKLY(bf16_from_f32(value) == (bits | 0x0040));
            continue;
        }
        if ((bits & 0x7fff) == 0x7f80)
            ASSERT_QUICKLY(isinf(value));
        else
            ASSERT_QUICKLY(value == value_of(bf16, bits));
        ASSERT_QUICKLY(bf16_from_f32(value) == bits);
    }
}
END_TEST

static void check_rounding(uint32_t bits) {
    float value = f32_from_bits(bits);
    if (isnan(value)) {
        ASSERT_QUICKLY(is_nan_pattern(f16, f16_from_f32(value)));
        ASSERT_QUICKLY(is_nan_pattern(bf16, bf16_from_f32(value)));
        ASSERT_QUICKLY(f16_from_f32(value) >> 15 == bits >> 31);
        ASSERT_QUICKLY(bf16_from_f32(value) >> 15 == bits >> 31);
        return;
    }
    uint16_t half = f16_from_f32(value), expected_half = nearest(f16, value);
    if (half != expected_half) {
        ck_abort_msg("f16 of %a (0x%08x) is %04x, expected %04x", value, bits, half, expected_half);
    }
    uint16_t brain = bf16_from_f32(value), expected_brain = nearest(bf16, value);
    if (brain != expected_brain) {
        ck_abort_msg("bf16 of %a (0x%08x) is %04x, expected %04x", value, bits, brain,
                     expected_brain);
    }
}

START_TEST(random_f32_round_to_nearest_even) {
    for (uint64_t i = 0; i < 50000; i++) {
        philox_block random = philox_at(7, 0, i);
        check_rounding(random.v[0]);
        // Most of all f32 overflow f16 or vanish in it: half of the numbers are put between 2^-27
        // and 2^17.
        uint32_t exponent = 100 + random.v[1] % 45;
        check_rounding((random.v[2] & 0x807fffff) | exponent << 23);
    }
}
END_TEST

// Each f16 or bf16, the middle between it and the next, and the f32 beside those.
START_TEST(ties_and_their_neighbours) {
    for (uint32_t bits = 0; bits < 0x7c00; bits++) {
        double middle = (value_of(f16, bits) + value_of(f16, bits + 1)) / 2;
        uint32_t tie = f32_bits((float)middle);
        for (int d = -1; d <= 1; d++) {
            check_rounding(tie + (uint32_t)d);
            check_rounding((tie + (uint32_t)d) | 0x80000000);
        }
    }
    for (uint32_t bits = 0; bits < 0x7f80; bits++) {
        uint32_t tie = bits << 16 | 0x8000;
        for (int d = -1; d <= 1; d++) check_rounding(tie + (uint32_t)d);
    }
    static const uint32_t edges[] = {0,          1,          0x007fffff, 0x00800000,
                                     0x7f7fffff, 0x7f800000, 0x7f800001, 0x7fc00000,
                                     0x7fffffff, 0x33000000, 0x33000001};
    for (size_t i = 0; i < sizeof edges / sizeof *edges; i++) {
        check_rounding(edges[i]);
        check_rounding(edges[i] | 0x80000000);
    }
}
END_TEST

START_TEST(names_and_sizes) {
    static const char *const names[] = {"f32", "f16", "bf16", "i32"};
    static const char *const file_names[] = {"F32", "F16", "BF16", "I32"};
    static const size_t bytes[] = {4, 2, 2, 4};
    ck_assert_int_eq(BRIM_DTYPE_COUNT, sizeof bytes / sizeof *bytes);
    for (int i = 0; i < BRIM_DTYPE_COUNT; i++) {
        brim_dtype found = (brim_dtype)-1;
        ck_assert_str_eq(brim_dtype_name((brim_dtype)i), names[i]);
        ck_assert_str_eq(dtype_safetensors_name((brim_dtype)i), file_names[i]);
        ck_assert_uint_eq(brim_dtype_bytes((brim_dtype)i), bytes[i]);
        ck_assert(dtype_from_name(names[i], &found));
        ck_assert_int_eq(found, i);
    }
    brim_dtype found = BRIM_F16;
    ck_assert(!dtype_from_name("f64", &found));
    ck_assert(!dtype_from_name("", &found));
    ck_assert_int_eq(found, BRIM_F16);
    ck_assert_str_eq(brim_dtype_name((brim_dtype)BRIM_DTYPE_COUNT), "unknown");
    ck_assert_uint_eq(brim_dtype_bytes((brim_dtype)-1), 0);
    ck_assert(dtype_is_float(BRIM_F32) && dtype_is_float(BRIM_F16) && dtype_is_float(BRIM_BF16));
    ck_assert(!dtype_is_float(BRIM_I32));
}
END_TEST

START_TEST(arrays_convert) {
    const float values[] = {0, -1.5f, 65504, 3.25f, 1e-7f};
    enum { N = sizeof values / sizeof *values };
    for (int i = 0; i < BRIM_DTYPE_COUNT; i++) {
        unsigned char stored[N * 4 + 1]; // from an odd address on
        float back[N];
        dtype_from_f32((brim_dtype)i, values, stored + 1, N);
        dtype_to_f32((brim_dtype)i, stored + 1, back, N);
        for (int k = 0; k < N; k++) {
            float expected[] = {values[k], f16_to_f32(f16_from_f32(values[k])),
                                bf16_to_f32(bf16_from_f32(values[k])), truncf(values[k])};
            ck_assert_uint_eq(f32_bits(back[k]), f32_bits(expected[i] + 0.0f));
        }
    }
    const float wild[] = {NAN, INFINITY, -INFINITY, 3e9f, -3e9f, -2147483648.0f, 2147483520.0f};
    const int32_t expected[] = {0,         INT32_MAX, INT32_MIN, INT32_MAX,
                                INT32_MIN, INT32_MIN, 2147483520};
    int32_t clamped[7];
    dtype_from_f32(BRIM_I32, wild, clamped, 7);
    ck_assert_mem_eq(clamped, expected, sizeof clamped);
}
END_TEST

Suite *core_dtype_suite(void) {
    Suite *suite = suite_create("core/dtype");
    TCase *tests = tcase_create("dtype");
    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, every_f16_widens_exactly);
    tcase_add_test(tests, every_bf16_widens_exactly);
    tcase_add_test(tests, random_f32_round_to_nearest_even);
    tcase_add_test(tests, ties_and_their_neighbours);
    tcase_add_test(tests, names_and_sizes);
    tcase_add_test(tests, arrays_convert);
    suite_add_tcase(suite, tests);
    return suite;
}
