// Matrix products of the OpenCL backend: host libraries in native kernels, and CLBlast.
#include "core/half.h"
#include "tests/backend_rig.h"

static void store_element(brim_dtype dtype, void *array, int64_t i, float x) {
    if (dtype == BRIM_F32)
        ((float *)array)[i] = x;
    else
        ((uint16_t *)array)[i] = dtype == BRIM_F16 ? f16_from_f32(x) : bf16_from_f32(x);
}

static double element(brim_dtype dtype, const void *array, int64_t i) {
    if (dtype == BRIM_F32) return ((const float *)array)[i];
    uint16_t bits = ((const uint16_t *)array)[i];
    return dtype == BRIM_F16 ? f16_to_f32(bits) : bf16_to_f32(bits);
}

// Compares C with the product in double. The error of a sum of k f32 products is at most k u sum |a
// b|, and in practice far less; a 16-bit result has half a unit in the last place on top.
static void check_product(const matmul_shape *s, const void *a, const void *b, const void *c) {
    double u = s->out == BRIM_F32 ? 0 : s->out == BRIM_F16 ? 0x1p-11 : 0x1p-8;
    for (int64_t batch = 0; batch < s->batch; batch++)
        for (int64_t i = 0; i < s->m; i++)
            for (int64_t j = 0; j < s->n; j++) {
                double sum = 0, magnitude = 0;
                for (int64_t k = 0; k < s->k; k++) {
                    int64_t at_a =
                        batch * s->batch_a + (s->transpose_a ? k * s->row_a + i : i * s->row_a + k);
                    int64_t at_b =
                        batch * s->batch_b + (s->transpose_b ? j * s->row_b + k : k * s->row_b + j);
                    double x = element(s->in, a, at_a) * element(s->in, b, at_b);
                    sum += x, magnitude += fabs(x);
                }
                double got = element(s->out, c, batch * s->batch_c + i * s->row_c + j);
                double tolerance =
                    8 * 0x1p-24 * magnitude + u * fabs(sum) + (s->out == BRIM_F16 ? 0x1p-25 : 0);
                ck_assert_msg(fabs(got - sum) <= tolerance,
                              "[%d][%d][%d]: %.9g, expected %.9g +- %.2g", (int)batch, (int)i,
                              (int)j, got, sum, tolerance);
            }
}

enum {
    SPACE = 1 << 20,
    AT_A = 256,
    AT_B = SPACE + 4,
    AT_C = 2 * SPACE + 4,
    AT_WORKSPACE = 3 * SPACE
};

static void run_product(const matmul_shape *s) {
    static char a[SPACE], b[SPACE], c[SPACE];
    int64_t elements = (SPACE - 512) / (int64_t)brim_dtype_bytes(s->in);
    float *values = malloc(sizeof *values * (size_t)elements);
    ck_assert_ptr_nonnull(values);
    for (int operand = 0; operand < 2; operand++) {
        fill_floats(values, (size_t)elements, (uint64_t)operand);
        for (int64_t i = 0; i < elements; i++) store_element(s->in, operand ? b : a, i, values[i]);
    }
    free(values);
    memset(c, 0x7f, sizeof c); // NaN in f32; guards around C
    api->write(device, AT_A, a, SPACE - 512, &err);
    api->write(device, AT_B, b, SPACE - 512, &err);
    api->write(device, AT_C - 4, c, SPACE - 512, &err);
    run_and_wait(SECTION_LAST, 0);
    api->read(device, AT_C - 4, c, SPACE - 512, &err);
    ASSERT_FINE(err);
    check_product(s, a, b, c + 4);
    int64_t end = (s->batch - 1) * s->batch_c + (s->m - 1) * s->row_c + s->n;
    const char *after = c + 4 + end * (int64_t)brim_dtype_bytes(s->out);
    for (int i = 0; i < 16; i++) ck_assert_int_eq(after[i], 0x7f);
    for (int i = 0; i < 4; i++) ck_assert_int_eq(c[i], 0x7f);
    if (s->row_c > s->n) ck_assert_int_eq(c[4 + s->n * (int64_t)brim_dtype_bytes(s->out)], 0x7f);
}

static void check_matmul(device_settings settings, matmul_shape s) {
    if (!open_with(0, settings)) return;
    if (!api->matmul_native(device, &s)) {
        skip(settings.clblast ? SKIP_no_clblast : SKIP_no_native_kernels);
        return;
    }
    bool clblast = strncmp(api->matmul_library(device), "CLBlast", 7) == 0;
    ck_assert_int_eq(clblast, settings.clblast || !api->traits(device)->cpu);
    int64_t workspace = -1;
    api->matmul_workspace(device, &s, &workspace, &err);
    ASSERT_FINE(err);
    ck_assert(workspace >= 0);
    reserve(AT_WORKSPACE + workspace, 64);
    add((program_record){.kind = RECORD_MATMUL,
                         .as.matmul = {s, AT_A, AT_B, AT_C, AT_WORKSPACE, workspace}});
    load();
    run_product(&s);
}

// m n k, batch; strides are a little more than needed, so that none of them may be mistaken for an
// extent.
static matmul_shape dense(brim_dtype in, brim_dtype out, int64_t m, int64_t n, int64_t k,
                          int transposed) {
    matmul_shape s = {.in = in,
                      .out = out,
                      .m = m,
                      .n = n,
                      .k = k,
                      .batch = 1,
                      .transpose_a = transposed & 1,
                      .transpose_b = transposed & 2};
    s.row_a = (s.transpose_a ? m : k) + 3;
    s.row_b = (s.transpose_b ? k : n) + 5;
    s.row_c = n + 2;
    return s;
}

static const brim_dtype product_dtypes[][2] = {
    {BRIM_F32, BRIM_F32}, {BRIM_BF16, BRIM_BF16}, {BRIM_BF16, BRIM_F32},
    {BRIM_F16, BRIM_F16}, {BRIM_F16, BRIM_F32},
};

START_TEST(native_products) { // _i: dtypes * 4 transpositions
    check_matmul((device_settings){0},
                 dense(product_dtypes[_i / 4][0], product_dtypes[_i / 4][1], 61, 83, 97, _i % 4));
}
END_TEST

START_TEST(native_products_in_slices) {
    check_matmul((device_settings){0}, dense(product_dtypes[_i / 4][0], product_dtypes[_i / 4][1],
                                             _i & 1 ? 70 : 331, _i & 1 ? 331 : 70, 300, _i % 4));
}
END_TEST

static matmul_shape batched(int broadcast) {
    matmul_shape s = dense(BRIM_F32, BRIM_F32, 17, 33, 29, broadcast);
    s.batch = 6;
    s.batch_a = broadcast == 1 ? 0 : 17 * 29 + 100 + 17 * 3 + 29 * 3;
    s.batch_b = broadcast == 2 ? 0 : 33 * 29 + 300 + 33 * 3;
    s.batch_c = 17 * 35 + 1;
    return s;
}

START_TEST(native_products_in_batches) {
    matmul_shape s = batched(_i % 3);
    if (_i >= 3) s.in = s.out = BRIM_BF16;
    check_matmul((device_settings){0}, s);
}
END_TEST

START_TEST(clblast_products) {
    check_matmul((device_settings){.clblast = true}, dense(BRIM_F32, BRIM_F32, 61, 83, 97, _i % 4));
}
END_TEST

START_TEST(clblast_products_that_need_workspace) {
    check_matmul((device_settings){.clblast = true},
                 dense(BRIM_F32, BRIM_F32, 331, 333, 70, _i % 4));
}
END_TEST

START_TEST(clblast_products_in_batches) {
    check_matmul((device_settings){.clblast = true}, batched(_i % 3));
}
END_TEST

START_TEST(a_product_of_nothing_is_zero) {
    if (!open_with(0, (device_settings){0})) return;
    matmul_shape s = dense(BRIM_F32, BRIM_F32, 5, 7, 0, 0);
    s.row_a = s.row_b = 1 << 28; // nothing lies there
    if (!api->matmul_native(device, &s)) {
        skip(SKIP_no_native_kernels);
        return;
    }
    reserve(AT_WORKSPACE, 64);
    add((program_record){.kind = RECORD_MATMUL,
                         .as.matmul = {s, AT_A, AT_B, AT_C, AT_WORKSPACE, 0}});
    load();
    run_product(&s);
}
END_TEST

START_TEST(libraries_can_be_declined) {
    if (!open_with(0, (device_settings){.own_products = true})) return;
    matmul_shape s = dense(BRIM_F32, BRIM_F32, 5, 7, 3, 0);
    ck_assert(!api->matmul_native(device, &s));
    ck_assert_str_eq(api->matmul_library(device), "");
    reserve(AT_WORKSPACE, 64);
    add((program_record){
        .kind = RECORD_MATMUL,
        .as.matmul = {dense(BRIM_I32, BRIM_I32, 5, 7, 3, 0), AT_A, AT_B, AT_C, 0, 0}});
    api->load(device, prog, &loaded, &err);
    ASSERT_FAILS(err, BRIM_UNSUPPORTED, "no library serves this matrix product");
}
END_TEST

Suite *opencl_matmul_suite(void) {
    Suite *suite = suite_create("opencl_matmul");
    TCase *tests = tcase_create("opencl_matmul");
    tcase_add_checked_fixture(tests, start, finish);
    tcase_set_timeout(tests, 120);
    tcase_add_loop_test(tests, native_products, 0, 20);
    tcase_add_loop_test(tests, native_products_in_slices, 0, 20);
    tcase_add_loop_test(tests, native_products_in_batches, 0, 6);
    tcase_add_loop_test(tests, clblast_products, 0, 4);
    tcase_add_loop_test(tests, clblast_products_that_need_workspace, 0, 4);
    tcase_add_loop_test(tests, clblast_products_in_batches, 0, 3);
    tcase_add_test(tests, a_product_of_nothing_is_zero);
    tcase_add_test(tests, libraries_can_be_declined);
    suite_add_tcase(suite, tests);
    return suite;
}
