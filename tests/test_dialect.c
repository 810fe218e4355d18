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
    tcase_add_test(tests, edges);
    suite_add_tcase(suite, tests);
    return suite;
}
