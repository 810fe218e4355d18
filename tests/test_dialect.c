// The dialect's functions on a CPU device, compiled for the host: + - * / and fma are IEEE's on
// both sides, so the errors are the device's.
#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include "test_core.h"

#define VEC 1
#define GROUP 1
#define BRIM_CPU 1
#define GLOBAL
#define LOCAL_PTR
// On devices the bits of an int that do not fit are lost; C has no word on it.
#define DEVICE_FN                                                                                  \
    static inline                                                                                  \
        __attribute__((unused, no_sanitize("shift"), no_sanitize("signed-integer-overflow")))
#define UNROLL
#define BARRIER()
#define local_id() 0
typedef unsigned char uchar_t;
typedef unsigned short ushort_t;
typedef int int_t;
typedef unsigned uint_t;
typedef int64_t long_t;
typedef uint64_t ulong_t;
typedef float vecf;
typedef int veci, maskv;
#define splat(x) (x)
#define vget(v, i) ((void)(i), (v))
#define m_or(a, b) ((a) | (b))
#define v_where(m, a, b) ((m) ? (a) : (b))
#define v_lt(a, b) ((a) < (b))
#define v_le(a, b) ((a) <= (b))
#define v_gt(a, b) ((a) > (b))
#define v_ne(a, b) ((a) != (b))
#define v_abs(x) fabsf(x)
#define v_sqrt(x) sqrtf(x)
#define v_fma(a, b, c) fmaf(a, b, c)
#define s_where(m, a, b) ((m) ? (a) : (b))
#define s_abs(x) fabsf(x)
#define s_sqrt(x) sqrtf(x)
#define s_fma(a, b, c) fmaf(a, b, c)
#define s_from_int(x) ((float)(x))
#define s_floor(x) floorf(x)
#define s_mulhi(a, b) ((uint_t)((uint64_t)(a) * (b) >> 32))
static int s_as_int(float x) {
    int bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}
static float s_as_float(uint_t bits) {
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}
#include "backends/kernels/dialect.h"

// The distance of neighbouring floats at x.
static double ulp(double x) {
    int exponent = -125;
    if (x != 0) frexp(x, &exponent);
    return ldexp(1, (exponent < -125 ? -125 : exponent) - 24);
}

typedef struct function {
    const char *name;
    float (*ours)(float);
    double (*exact)(double);
    float from, to;
    double error; // in ulp, as dialect.h states it
} function;

static float exp_ours(float x) {
    return s_exp(x);
}
static float exp_negative_ours(float x) {
    return s_exp_negative(x);
}
static float exp2_ours(float x) {
    return s_exp2(x);
}
static float exp2_in_range_ours(float x) {
    return s_exp2_in_range(x);
}
static float log_ours(float x) {
    return s_log(x);
}
static float tanh_ours(float x) {
    return s_tanh(x);
}
static float erf_ours(float x) {
    return s_erf(x);
}

static const function functions[] = {
    {"exp", exp_ours, exp, -INFINITY, INFINITY, 0.9},
    {"exp_negative", exp_negative_ours, exp, -87, 1, 0.9},
    {"exp2", exp2_ours, exp2, -INFINITY, INFINITY, 1.0},
    {"exp2_in_range", exp2_in_range_ours, exp2, -126, 128, 1.0},
    {"log", log_ours, log, 0, INFINITY, 0.9},
    {"tanh", tanh_ours, tanh, -INFINITY, INFINITY, 1.4},
    {"erf", erf_ours, erf, -INFINITY, INFINITY, 1.1},
};

static bool is_right(const function *f, float got, double exact, double *most) {
    if (got == (float)exact) return true;
    double error = fabs((double)got - exact) / ulp(exact);
    if (error > *most) *most = error;
    return error <= f->error;
}

START_TEST(errors_are_what_is_documented) {
    const function *f = &functions[_i];
    double most = 0;
    for (uint64_t bits = 0; bits <= UINT32_MAX; bits += 1009) {
        float x = s_as_float((uint_t)bits);
        if (!(x >= f->from && x <= f->to)) continue;
        double exact = f->exact(x);
        float got = f->ours(x);
        if (!is_right(f, got, exact, &most))
            ck_abort_msg("%s(%a) is %a, not %a", f->name, (double)x, (double)got, exact);
    }
    ck_assert_msg(most > 0.5, "%s: errors of %g ulp are too small to be true", f->name, most);
}
END_TEST

// ---- activations --------------------------------------------------------------------------------

static double sigmoid(double x) {
    return 1 / (1 + exp(-x));
}
static double silu(double x) {
    return x * sigmoid(x);
}
static double silu_slope(double x) {
    return sigmoid(x) * (1 + x * (1 - sigmoid(x)));
}
static double tanh_argument(double x) {
    return sqrt(2 / acos(-1)) * (x + 0.044715 * x * x * x);
}
static double gelu_tanh(double x) {
    return 0.5 * x * (1 + tanh(tanh_argument(x)));
}
static double gelu_tanh_slope(double x) {
    double t = tanh(tanh_argument(x));
    double slope = sqrt(2 / acos(-1)) * (1 + 3 * 0.044715 * x * x);
    return 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * slope;
}
static double gelu_erf(double x) {
    return 0.5 * x * erfc(-x / sqrt(2));
}
static double gelu_erf_slope(double x) {
    return 0.5 * erfc(-x / sqrt(2)) + x * exp(-0.5 * x * x) / sqrt(2 * acos(-1));
}

typedef struct activation {
    const char *name;
    float (*ours)(float);
    double (*exact)(double);
    bool grows; // as x does; else it is around 1, also at 0
} activation;

static const activation activations[] = {
    {"sigmoid", s_sigmoid, sigmoid, false},
    {"silu", s_silu, silu, true},
    {"silu_slope", s_silu_slope, silu_slope, false},
    {"gelu_tanh", s_gelu_tanh, gelu_tanh, true},
    {"gelu_tanh_slope", s_gelu_tanh_slope, gelu_tanh_slope, false},
    {"gelu_erf", s_gelu_erf, gelu_erf, true},
    {"gelu_erf_slope", s_gelu_erf_slope, gelu_erf_slope, false},
};

// Within some roundings of numbers as large as x (and 1), from far below 0 to far above.
START_TEST(activations_are_what_they_are_called) {
    const activation *a = &activations[_i];
    for (int step = -40000; step <= 40000; step++) {
        float x = (float)step / 1000;
        double exact = a->exact(x), size = fabs((double)x) + !a->grows;
        double error = fabs((double)a->ours(x) - exact);
        if (!(error <= 8 * 0x1p-24 * size))
            ck_abort_msg("%s(%a) is %a, not %a", a->name, (double)x, (double)a->ours(x), exact);
    }
}
END_TEST

// ---- the rest -----------------------------------------------------------------------------------

START_TEST(small_functions) {
    const float numbers[] = {-INFINITY, -3, -0.0f, 0, 2.5f, 3.40282347e38f, INFINITY};
    enum { NUMBERS = sizeof numbers / sizeof *numbers };
    for (int i = 0; i < NUMBERS; i++) {
        float a = numbers[i];
        ck_assert(s_relu(a) == (a > 0 ? a : 0));
        ck_assert(s_is_finite(a) == (isfinite(a) ? 1 : 0));
        for (int k = 0; k < NUMBERS; k++) {
            float b = numbers[k];
            ck_assert(s_max(a, b) == fmaxf(a, b) && v_max(a, b) == fmaxf(a, b));
            ck_assert(s_min(a, b) == fminf(a, b) && v_min(a, b) == fminf(a, b));
            ck_assert((s_lt(a, b)) == (a < b) && (s_ge(a, b)) == !(a < b));
            ck_assert((s_gt(a, b)) == (b < a) && (s_le(a, b)) == !(b < a));
            ck_assert((s_eq(a, b)) == (a == b) && (s_ne(a, b)) == !(a == b));
        }
        ck_assert(isnan(s_max(a, NAN)) && isnan(s_max(NAN, a)) && isnan(v_max(NAN, a)));
        ck_assert(isnan(s_min(a, NAN)) && isnan(s_min(NAN, a)) && isnan(v_min(NAN, a)));
    }
    ck_assert(s_is_finite(NAN) == 0 && isnan(s_relu(NAN)));
    ck_assert(s_rsqrt(4) == 0.5f && v_rsqrt(0.25f) == 2);
    ck_assert(s_rsqrt(3) == 1 / sqrtf(3));
}
END_TEST

// The known answers that come with Random123 (kat_vectors, philox4x32 10).
START_TEST(random_numbers) {
    static const uint_t expected[] = {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1};
    philox_words words =
        philox4x32(0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344, 0xa4093822u, 0x299f31d0u);
    for (int i = 0; i < 4; i++) ck_assert_uint_eq(words.x[i], expected[i]);
    ck_assert(uniform01(0xff) == 0 && uniform01(0x100) == 0x1p-24f);
    ck_assert(uniform01(0x80000000) == 0.5f && uniform01(0xffffffff) == 1 - 0x1p-24f);
}
END_TEST

// Past where exp_negative says 0, and what is no number.
START_TEST(edges) {
    ck_assert(s_exp_negative(-87.1f) == 0 && s_exp_negative(-INFINITY) == 0);
    ck_assert(isnan(s_exp_negative(NAN)) && isnan(s_exp(NAN)) && isnan(s_exp2(NAN)));
    ck_assert(s_exp2_in_range(128) == INFINITY && s_exp2_in_range(-126) == 1.17549435e-38f);
    for (uint_t payload = 1; payload < 512; payload++) {
        float x = s_as_float(0x7fc00000u | payload);
        ASSERT_QUICKLY(isnan(s_gelu_tanh(x)) && isnan(s_gelu_tanh_slope(x)));
        ASSERT_QUICKLY(isnan(s_exp_negative(x)));
    }
    ck_assert(s_gelu_tanh(INFINITY) == INFINITY && s_gelu_tanh(-1e30f) == 0);
    ck_assert(s_gelu_tanh_slope(INFINITY) == 1 && s_gelu_tanh_slope(-INFINITY) == 0);
}
END_TEST

Suite *dialect_suite(void) {
    Suite *suite = suite_create("dialect");
    TCase *tests = tcase_create("functions");
    tcase_add_loop_test(tests, errors_are_what_is_documented, 0,
                        sizeof functions / sizeof *functions);
    tcase_add_loop_test(tests, activations_are_what_they_are_called, 0,
                        sizeof activations / sizeof *activations);
    tcase_add_test(tests, small_functions);
    tcase_add_test(tests, random_numbers);
    tcase_add_test(tests, edges);
    suite_add_tcase(suite, tests);
    return suite;
}
