// Host kernels: the same bits as the device's kernels and as a reference that rounds every
// operation by itself, in each variant that this CPU runs, however the work is cut.
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "backends/host_kernels.h"
#include "core/dtype.h"
#include "core/half.h"
#include "core/philox.h"
#include "tests/devices.h"
#include "tests/harness.h"
#include "tests/skips.h"
#include "tests/test_core.h"

// No multiple of a vector, and many of the kernels' blocks.
enum { COUNT = 2711, BLOCKS = 11, TENSORS = 7, SCALARS = 5, ARGUMENTS = 24 };

// TIES: parameters half-way between two copies, and an update that leaves them as they are.
typedef enum input_kind { ORDINARY, ANY_BITS, CORNERS, TIES, SKIPPED, INPUT_KINDS } input_kind;

// What the variables are, and the gradient behind them: f32 (f), a copy (c), words of codes (w),
// scales (s), bf16 (b).
static const struct {
    op_id op;
    const char *name, *tensors;
    brim_dtype copy; // f32: none
    int scalars;
} updates[] = {
    {OP_ADAMW, "adamw", "ffff", BRIM_F32, 5},
    {OP_ADAMW_CAST, "adamw_bf16", "fffcf", BRIM_BF16, 5},
    {OP_ADAMW_CAST, "adamw_f16", "fffcf", BRIM_F16, 5},
    {OP_ADAMW_Q8, "adamw_q8", "fwswsf", BRIM_F32, 5},
    {OP_ADAMW_Q8_CAST, "adamw_q8_bf16", "fwswscf", BRIM_BF16, 5},
    {OP_ADAMW_Q8_CAST, "adamw_q8_f16", "fwswscf", BRIM_F16, 5},
    {OP_ADAMW_Q8, "adamw_q8_from_bf16", "fwswsb", BRIM_F32, 5},
    {OP_ADAMW_Q8_CAST, "adamw_q8_bf16_from_bf16", "fwswscb", BRIM_BF16, 5},
    {OP_ADAMW_Q8_CAST, "adamw_q8_f16_from_bf16", "fwswscb", BRIM_F16, 5},
    {OP_SGD, "sgd", "fff", BRIM_F32, 3},
    {OP_SGD_CAST, "sgd_bf16", "ffcf", BRIM_BF16, 3},
    {OP_SGD_CAST, "sgd_f16", "ffcf", BRIM_F16, 3},
};
enum { UPDATES = sizeof updates / sizeof *updates };

// One update's operands: the variables, the gradient, scalars.
typedef struct operands {
    int update, variables, scalars;
    brim_dtype copy;
    float tensor[TENSORS][COUNT]; // 16-bit numbers as words of them, codes as integers
    float scalar[SCALARS];        // scale, lr, c1, c2, keep; SGD: scale, lr, keep
    brim_attr attr;
} operands;

static char kind_of(const operands *o, int k) {
    return updates[o->update].tensors[k];
}

static bool is_copy(const operands *o, int k) {
    return kind_of(o, k) == 'c';
}

static bool is_q8(const operands *o) {
    return kind_of(o, 1) == 'w';
}

static int64_t count_of(const operands *o, int k) {
    char kind = kind_of(o, k);
    return kind == 'w' ? BLOCKS * STATE_BLOCK_WORDS : kind == 's' ? BLOCKS : COUNT;
}

static brim_dtype dtype_of(const operands *o, int k) {
    switch (kind_of(o, k)) {
    case 'c':
        return o->copy;
    case 'w':
        return BRIM_I32;
    case 'b':
        return BRIM_BF16;
    default:
        return BRIM_F32;
    }
}

// ---- numbers ------------------------------------------------------------------------------------

static float corner(uint32_t draw) {
    static const float numbers[] = {
        0,         1,          -1,         0x1p-149f,   0x1.fffffcp-127f, 0x1p-126f,
        0x1p-100f, 0x1p-75f,   1e-8f,      0x1.8p-133f, 0x1p60f,          0x1p64f,
        0x1p90f,   65520,      65504,      0x1p127f,    0x1.fffffep127f,  INFINITY,
        NAN,       0x1.008p0f, 0x1.018p0f, 0x1.002p0f,  0x1.006p0f,       0x1p-25f,
        0x1.8p-24f};
    float x = numbers[(draw >> 1) % (sizeof numbers / sizeof *numbers)];
    return draw & 1 ? -x : x;
}

static float ordinary(philox_block b, bool positive) {
    float x = (philox_uniform(b.v[0]) - 0.5f) * exp2f((float)(int)(b.v[1] % 24) - 16);
    return positive ? fabsf(x) : x;
}

// Between two neighbours in bf16, or in f16, among whose are its subnormal numbers and the
// greatest.
static float tie(philox_block b, bool bf16) {
    if (bf16) return f32_from_bits((b.v[0] & 0xffff0000) | 0x8000);
    float x = ((float)(b.v[0] % 2048) + 0.5f) * exp2f((float)(b.v[1] % 30) - 24);
    return b.v[2] & 1 ? x : -x;
}

static float number(input_kind kind, uint64_t stream, uint64_t i) {
    philox_block b = philox_at(5, stream, i);
    switch (kind) {
    case ANY_BITS:
        return f32_from_bits(b.v[2]);
    case CORNERS:
        return corner(b.v[2] ^ b.v[3]);
    case TIES:
        return stream % TENSORS ? 0 : tie(b, i % 2);
    default:
        return ordinary(b, stream % TENSORS == 2);
    }
}

// A NaN's sign is left open, and it is the sign of a code: states as blocks begin with finite
// numbers.
static float tame(float x, char kind) {
    if (!isfinite(x) || fabsf(x) > 0x1p60f) return 0x1p-3f;
    return kind == 's' ? fabsf(x) : x;
}

static void fill_tensor(operands *o, int k, input_kind input) {
    uint64_t stream = (uint64_t)(o->update * TENSORS + k);
    for (int64_t i = 0; i < count_of(o, k); i++) {
        float x = number(input, stream, (uint64_t)i);
        uint32_t word = philox_at(6, stream, (uint64_t)i).v[0];
        if (is_q8(o) && k > 0) x = tame(x, kind_of(o, k));
        if (brim_dtype_bytes(dtype_of(o, k)) == sizeof(uint16_t))
            dtype_from_f32(dtype_of(o, k), &x, (uint16_t *)o->tensor[k] + i, 1);
        else if (kind_of(o, k) == 'w')
            memcpy(&o->tensor[k][i], &word, sizeof word);
        else
            o->tensor[k][i] = x;
    }
}

static void fill(operands *o, int update, input_kind input) {
    *o = (operands){.update = update,
                    .variables = (int)strlen(updates[update].tensors) - 1,
                    .scalars = updates[update].scalars,
                    .copy = updates[update].copy,
                    .scalar = {0.37f, 0.0123f, 0.271f, 0.00299f},
                    .attr.optimizer = {0.9f, 0.95f, 1e-8f, 0.1f, 0.75f}};
    o->scalar[o->scalars - 1] = input == SKIPPED ? 0 : 1;
    if (input == TIES) o->attr.optimizer.decay = 0;
    for (int k = 0; k <= o->variables; k++) fill_tensor(o, k, input);
    if (input != TIES || !is_q8(o)) return;
    memset(o->tensor[1], 0, sizeof o->tensor[1]); // m = 0: the parameter stays
}

// ---- on the host --------------------------------------------------------------------------------

// Cuts the range into pieces of so many elements.
static void run_host(operands *o, const host_kernel *kernel, int64_t piece) {
    const brim_attr *a = &o->attr;
    const float adamw[] = {(float)(1 - (double)a->optimizer.beta1),
                           a->optimizer.beta2,
                           (float)(1 - (double)a->optimizer.beta2),
                           a->optimizer.eps,
                           a->optimizer.decay,
                           a->optimizer.lr_scale};
    const float sgd[] = {a->optimizer.beta1, a->optimizer.decay, a->optimizer.lr_scale};
    host_argument argument[ARGUMENTS];
    int count = 0;
    for (int k = 0; k <= o->variables; k++) argument[count++].buffer = o->tensor[k];
    for (int k = 0; k < o->scalars; k++) argument[count++].buffer = &o->scalar[k];
    ck_assert_int_eq(kernel->count_argument, count);
    argument[count++].i64 = COUNT;
    bool is_adamw = o->scalars == 5;
    for (int k = 0; k < (is_adamw ? 6 : 3); k++)
        argument[count++].f32 = is_adamw ? adamw[k] : sgd[k];
    for (int64_t first = 0; first < COUNT; first += piece)
        kernel->run(argument, first, COUNT - first < piece ? COUNT - first : piece);
}

// ---- the reference ------------------------------------------------------------------------------

// Products of f32 are exact in double; quotients, roots and sums of f32 that are rounded to double
// first come out as if rounded once (Figueroa 1995; double has more than 2 * 24 + 1 digits).
static float times(float a, float b) {
    return (float)((double)a * b);
}
static float plus(float a, float b) {
    return (float)((double)a + b);
}
static float divided(float a, float b) {
    return (float)((double)a / b);
}
static float root(float a) {
    return (float)sqrt((double)a);
}

// a b + c with one rounding: the sum in double is made odd where it is not exact (Boldo and
// Melquiond 2008), so that rounding it to f32 sees on which side of a tie it lies.
static float fused(float a, float b, float c) {
    double product = (double)a * b, sum = product + c;
    if (!isfinite(sum)) return (float)sum;
    double back = sum - product, error = (product - (sum - back)) + (c - back);
    uint64_t bits;
    memcpy(&bits, &sum, sizeof bits);
    if (error != 0 && !(bits & 1)) sum = nextafter(sum, error > 0 ? INFINITY : -INFINITY);
    return (float)sum;
}

static void reference_adamw(operands *o, int i) {
    const brim_attr *a = &o->attr;
    const float *s = o->scalar;
    float lr = times(s[1], a->optimizer.lr_scale), rate = divided(lr, s[2]), c2 = root(s[3]);
    float one_minus_beta1 = (float)(1 - (double)a->optimizer.beta1),
          one_minus_beta2 = (float)(1 - (double)a->optimizer.beta2);
    float *p = &o->tensor[0][i], *m = &o->tensor[1][i], *v = &o->tensor[2][i];
    float g = times(o->tensor[o->variables][i], s[0]);
    *m = fused(one_minus_beta1, plus(g, -*m), *m);
    *v = fused(times(g, one_minus_beta2), g, times(*v, a->optimizer.beta2));
    float below = plus(divided(root(*v), c2), a->optimizer.eps);
    *p = fused(-rate, divided(*m, below), times(*p, fused(-lr, a->optimizer.decay, 1)));
}

static void reference_sgd(operands *o, int i) {
    const brim_attr *a = &o->attr;
    const float *s = o->scalar;
    float lr = times(s[1], a->optimizer.lr_scale);
    float *p = &o->tensor[0][i], *m = &o->tensor[1][i];
    float g = times(o->tensor[o->variables][i], s[0]);
    *m = fused(*m, a->optimizer.beta1, fused(*p, a->optimizer.decay, g));
    *p = fused(-lr, *m, *p);
}

static void reference_copy(operands *o) {
    for (int i = 0; o->copy != BRIM_F32 && i < COUNT; i++) {
        float x = o->tensor[0][i];
        x = isnan(x) ? x : (float)oracle_round(o->copy, x);
        dtype_from_f32(o->copy, &x, (uint16_t *)o->tensor[o->variables - 1] + i, 1);
    }
}

static void run_reference(operands *o) {
    if (o->scalar[o->scalars - 1] == 0) return;
    for (int i = 0; i < COUNT; i++) {
        if (o->scalars == 5)
            reference_adamw(o, i);
        else
            reference_sgd(o, i);
    }
    reference_copy(o);
}

// ---- comparing ----------------------------------------------------------------------------------

static double element(const operands *o, int k, int64_t i) {
    double x;
    size_t bytes = brim_dtype_bytes(dtype_of(o, k));
    harness_to_numbers(dtype_of(o, k), (const char *)o->tensor[k] + (size_t)i * bytes, &x, 1);
    return x;
}

static void expect_same(const operands *found, const operands *expected, const char *who,
                        const char *input) {
    for (int k = 0; k <= found->variables; k++)
        for (int64_t i = 0; i < count_of(found, k); i++) {
            double a = element(found, k, i), b = element(expected, k, i);
            if (memcmp(&a, &b, sizeof a) != 0 && !(isnan(a) && isnan(b)))
                ck_abort_msg("%s, %s: %s: tensor %d, element %d is %a; expected %a",
                             updates[found->update].name, input, who, k, (int)i, a, b);
        }
}

static const char *const input_names[] = {"ordinary numbers", "any bits", "corners", "ties",
                                          "skipped"};

static void check_variants(const operands *start, const operands *expected, const char *input) {
    static const int64_t pieces[] = {COUNT, 1, 7, 1000, 1024, 64, 72, 256};
    for (int v = 0; v < HOST_VARIANTS; v++) {
        if (!host_variant_runs((host_variant)v)) continue;
        const host_kernel *kernel = host_kernel_of((host_variant)v, updates[start->update].name);
        ck_assert_ptr_nonnull(kernel);
        ck_assert_str_eq(kernel->name, updates[start->update].name);
        for (size_t p = 0; p < sizeof pieces / sizeof *pieces; p++) {
            operands found = *start;
            run_host(&found, kernel, pieces[p]);
            expect_same(&found, expected, host_variant_name((host_variant)v), input);
        }
    }
}

START_TEST(updates_are_rounded_once) { // _i: updates, inputs
    operands start, expected;
    fill(&start, _i % UPDATES, (input_kind)(_i / UPDATES));
    if (is_q8(&start)) return; // the oracle has that reference, rounded in the same way
    expected = start;
    run_reference(&expected);
    check_variants(&start, &expected, input_names[_i / UPDATES]);
}
END_TEST

// ---- the device ---------------------------------------------------------------------------------

static void set_leaf(const operands *o, int k, double *to) {
    for (int64_t i = 0; i < count_of(o, k); i++) to[i] = element(o, k, i);
}

static brim_value make_tensor(brim_graph *g, const operands *o, int k) {
    const int64_t count = count_of(o, k);
    shape s = {1, {count}};
    char name[8];
    snprintf(name, sizeof name, "x%d", k);
    if (k == 0) return brim_parameter_dims(g, name, (brim_init){0}, 1, &count);
    if (k == o->variables) return brim_input_dims(g, name, dtype_of(o, k), 1, &count);
    value_role role = is_copy(o, k) ? ROLE_COPY : ROLE_STATE;
    return graph_value_of(g, graph_leaf(g, role, dtype_of(o, k), &s, name));
}

// The update on the device.
static void run_device(harness *h, operands *o) {
    brim_error err = {0};
    brim_graph *g = brim_graph_create(&err);
    brim_value x[TENSORS + SCALARS];
    int count = 0;
    for (; count <= o->variables; count++) x[count] = make_tensor(g, o, count);
    for (int k = 0; k < o->scalars; k++, count++) {
        char name[8];
        snprintf(name, sizeof name, "s%d", k);
        x[count] = brim_input_dims(g, name, BRIM_F32, 0, NULL);
    }
    graph_op(g, updates[o->update].op, x, count, &o->attr);
    ASSERT_FINE(err);
    leaf_values leaves = leaf_values_make(g, NULL, 1, &err);
    bool *wanted = calloc((size_t)g->values, sizeof *wanted);
    for (int k = 0; k <= o->variables; k++) set_leaf(o, k, leaves.of[x[k].id]);
    for (int k = 0; k < o->variables; k++) wanted[x[k].id] = true;
    for (int k = 0; k < o->scalars; k++)
        *leaves.of[x[o->variables + 1 + k].id] = (double)o->scalar[k];
    harness_results results;
    harness_run(h, g, &leaves, wanted, &(harness_options){0}, &results, &err);
    ASSERT_FINE(err);
    for (int k = 0; k < o->variables; k++)
        memcpy(o->tensor[k], results.of[x[k].id],
               (size_t)count_of(o, k) * brim_dtype_bytes(dtype_of(o, k)));
    harness_results_free(&results);
    free(wanted);
    leaf_values_free(&leaves);
    brim_graph_free(g);
}

// As the device is, and as GPUs are.
static const device_settings settings[] = {
    {0}, {.vec = 1, .group = 64}, {.vec = 4, .group = 256}, {.vec = 1, .group = 32}};
enum { SETTINGS = sizeof settings / sizeof *settings };

START_TEST(updates_have_the_devices_bits) { // _i: devices, settings
    const char *device = device_under_test(_i / SETTINGS);
    if (!device) return;
    brim_error err = {0};
    harness h;
    harness_open(&h, device, &settings[_i % SETTINGS], &err);
    ASSERT_FINE(err);
    ck_assert(h.backend->traits(h.device)->exact_f32);
    for (int update = 0; update < UPDATES; update++)
        for (int kind = 0; kind < INPUT_KINDS; kind++) {
            operands start, expected;
            fill(&start, update, (input_kind)kind);
            expected = start;
            run_device(&h, &expected);
            check_variants(&start, &expected, input_names[kind]);
        }
    harness_close(&h);
}
END_TEST

// ---- sums ---------------------------------------------------------------------------------------

START_TEST(sums) {
    static float x[COUNT], start[COUNT], sum[COUNT];
    for (int kind = 0; kind <= CORNERS; kind++)
        for (int v = 0; v < HOST_VARIANTS; v++) {
            if (!host_variant_runs((host_variant)v)) continue;
            for (int i = 0; i < COUNT; i++) {
                start[i] = sum[i] = number((input_kind)kind, 1, (uint64_t)i);
                x[i] = number((input_kind)kind, 3, (uint64_t)i);
            }
            host_argument argument[] = {{.buffer = sum}, {.buffer = x}, {.i64 = COUNT}};
            const host_kernel *add = host_kernel_of((host_variant)v, "accumulate"),
                              *assign = host_kernel_of((host_variant)v, "assign");
            ck_assert_int_eq(add->count_argument, 2);
            ck_assert_int_eq(assign->count_argument, 2);
            add->run(argument, 0, 13);
            add->run(argument, 13, 900);
            for (int i = 0; i < COUNT; i++) {
                float expected = i < 913 ? plus(start[i], x[i]) : start[i];
                if (f32_bits(sum[i]) != f32_bits(expected) && !(isnan(sum[i]) && isnan(expected)))
                    ck_abort_msg("%s: %a + %a = %a", host_variant_name((host_variant)v),
                                 (double)start[i], (double)x[i], (double)sum[i]);
            }
            assign->run(argument, 5, COUNT - 9);
            for (int i = 913; i < COUNT; i++) {
                float expected = i < COUNT - 4 ? x[i] : start[i];
                ck_assert(memcmp(&sum[i], &expected, sizeof expected) == 0);
            }
        }
}
END_TEST

START_TEST(kernels_are_found) {
    ck_assert_ptr_null(host_kernel_find("adam"));
    ck_assert(host_variant_runs(HOST_PLAIN));
    static const char *const names[] = {"adamw", "sgd", "accumulate", "assign"};
    for (int i = 0; i < 4; i++) ck_assert_str_eq(host_kernel_find(names[i])->name, names[i]);
    host_variant best = HOST_PLAIN; // the last that runs
    static const char *const variant_names[HOST_VARIANTS] = {"plain", "avx2", "avx512"};
    for (int v = 0; v < HOST_VARIANTS; v++) {
        ck_assert_str_eq(host_variant_name((host_variant)v), variant_names[v]);
        if (host_variant_runs((host_variant)v))
            best = (host_variant)v;
        else
            ck_assert_ptr_null(host_kernel_of((host_variant)v, "adamw"));
    }
    ck_assert_ptr_eq(host_kernel_find("sgd"), host_kernel_of(best, "sgd"));
    ck_assert_ptr_null(host_kernel_of(best, "sg"));
}
END_TEST

Suite *host_kernels_suite(void) {
    Suite *suite = suite_create("host_kernels");
    TCase *host = tcase_create("host");
    tcase_set_timeout(host, 60);
    tcase_add_test(host, kernels_are_found);
    tcase_add_test(host, sums);
    tcase_add_loop_test(host, updates_are_rounded_once, 0, UPDATES * INPUT_KINDS);
    suite_add_tcase(suite, host);
    TCase *devices = tcase_create("devices");
    tcase_set_timeout(devices, 300);
    tcase_add_loop_test(devices, updates_have_the_devices_bits, 0, DEVICES_UNDER_TEST * SETTINGS);
    suite_add_tcase(suite, devices);
    return suite;
}
