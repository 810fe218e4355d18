// Host matrix products: bits that do not depend on chance, conversions, the pool of threads.
#include <check.h>
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include "backends/native_convert.h"
#include "backends/native_matmul.h"
#include "backends/worker_pool.h"
#include "core/half.h"
#include "core/philox.h"
#include "tests/skips.h"
#include "tests/test_core.h"

// ---- conversions --------------------------------------------------------------------------------

START_TEST(every_half_is_widened) {
    static uint16_t half[65536 + 3];
    static float wide[65536 + 3];
    for (uint32_t i = 0; i < 65536 + 3; i++) half[i] = (uint16_t)i;
    native_widen(BRIM_F16, half, wide, 65536 + 3);
    for (uint32_t i = 0; i < 65536 + 3; i++)
        ck_assert_uint_eq(f32_bits(wide[i]), f32_bits(f16_to_f32(half[i])));
    native_widen(BRIM_BF16, half, wide, 65536 + 3);
    for (uint32_t i = 0; i < 65536 + 3; i++)
        ck_assert_uint_eq(f32_bits(wide[i]), f32_bits(bf16_to_f32(half[i])));
}
END_TEST

// All upper halves with lower halves around the ties.
START_TEST(rounding_is_that_of_core) {
    static const uint32_t low[] = {0,      1,      0x0fff, 0x1000, 0x1001, 0x2000,
                                   0x3000, 0x7fff, 0x8000, 0x8001, 0xffff};
    enum { LOWS = sizeof low / sizeof *low };
    static float x[65536];
    static uint16_t half[65536];
    for (size_t l = 0; l < LOWS; l++) {
        for (uint32_t i = 0; i < 65536; i++) x[i] = f32_from_bits(i << 16 | low[l]);
        native_narrow(BRIM_F16, x, half, 65536 - 3);
        for (uint32_t i = 0; i < 65536 - 3; i++)
            ck_assert_msg(half[i] == f16_from_f32(x[i]), "f16 of %08x", f32_bits(x[i]));
        native_narrow(BRIM_BF16, x, half, 65536 - 3);
        for (uint32_t i = 0; i < 65536 - 3; i++)
            ck_assert_msg(half[i] == bf16_from_f32(x[i]), "bf16 of %08x", f32_bits(x[i]));
    }
}
END_TEST

// However many there are, those and no more; f32 is what it is.
START_TEST(counts_of_all_kinds) {
    static const brim_dtype dtypes[] = {BRIM_F32, BRIM_BF16, BRIM_F16};
    const size_t bytes = brim_dtype_bytes(dtypes[_i]);
    for (size_t count = 0; count < 40; count++) {
        float x[48], wide[48];
        char narrow[4 * 48];
        for (int i = 0; i < 48; i++) x[i] = (float)(i % 2 ? -i : i) / 4, wide[i] = 999;
        memset(narrow, 0x55, sizeof narrow);
        native_narrow(dtypes[_i], x, narrow, count);
        for (size_t i = count * bytes; i < sizeof narrow; i++) ck_assert_int_eq(narrow[i], 0x55);
        native_widen(dtypes[_i], narrow, wide, count);
        for (size_t i = 0; i < 48; i++) ck_assert(wide[i] == (i < count ? x[i] : 999));
    }
}
END_TEST

// ---- threads ------------------------------------------------------------------------------------

static atomic_int counts[1000];

static void count_item(void *context, int item) {
    atomic_fetch_add(&counts[item], *(int *)context);
}

typedef struct caller {
    worker_pool *pool;
    int amount;
} caller;

static void *call_often(void *argument) {
    caller *c = argument;
    for (int i = 0; i < 200; i++) worker_pool_run(c->pool, 1000, count_item, &c->amount);
    return NULL;
}

START_TEST(every_item_is_done_once) {
    brim_error err = {0};
    worker_pool *pool = worker_pool_create(_i, &err);
    ASSERT_FINE(err);
    int one = 1;
    for (int items = 0; items < 40; items++) {
        memset(counts, 0, sizeof counts);
        worker_pool_run(pool, items, count_item, &one);
        for (int i = 0; i < 1000; i++) ck_assert_int_eq(counts[i], i < items);
    }
    memset(counts, 0, sizeof counts);
    caller callers[] = {{pool, 1}, {pool, 1000}};
    pthread_t thread;
    ck_assert_int_eq(pthread_create(&thread, NULL, call_often, &callers[1]), 0);
    call_often(&callers[0]);
    pthread_join(thread, NULL);
    for (int i = 0; i < 1000; i++) ck_assert_int_eq(counts[i], 200 * 1001);
    worker_pool_free(pool);
}
END_TEST

// ---- products -----------------------------------------------------------------------------------

static const native_library libraries[] = {NATIVE_ONEDNN, NATIVE_CBLAS};
enum { LIBRARIES = sizeof libraries / sizeof *libraries };

// The same shape gives the same bits each time, whichever thread takes which slice, whatever is
// beside it in memory.
START_TEST(the_same_bits_each_time) {
    brim_error err = {0};
    native_matmul *m = native_matmul_open(libraries[_i], 3, &err);
    if (!m) {
        skip(SKIP_no_matmul_library);
        return;
    }
    const char *name = native_matmul_name(m);
    ck_assert_ptr_nonnull(strstr(name, ", 3 threads"));
    ck_assert_int_eq(strncmp(name, "oneDNN ", 7) == 0, libraries[_i] == NATIVE_ONEDNN);
    enum { M = 500, N = 260, K = 333 };
    static float a[M * K + 1], b[K * N + 1], first[M * N], again[M * N + 1];
    philox_fill_uniform(a, 0, M * K, 1, 1, -1, 1);
    philox_fill_uniform(b, 0, K * N, 1, 2, -1, 1);
    matmul_shape s = {.m = M, .n = N, .k = K, .batch = 1, .row_a = K, .row_b = N, .row_c = N};
    ck_assert(native_matmul_serves(m, &s));
    native_matmul_run(m, &s, a, b, first, NULL);
    for (int i = 0; i < 30; i++) {
        int shift = i % 2; // to and fro by one element
        if (shift)
            memmove(a + 1, a, sizeof(float) * M * K);
        else if (i)
            memmove(a, a + 1, sizeof(float) * M * K);
        native_matmul_run(m, &s, a + shift, b, again + shift, NULL);
        ck_assert_mem_eq(again + shift, first, sizeof first);
    }
    native_matmul_close(m);
}
END_TEST

// All transpositions, in slices, with leading dimensions of their own.
START_TEST(products_by_each_library) {
    brim_error err = {0};
    native_matmul *m = native_matmul_open(libraries[_i / 4], 2, &err);
    if (!m) {
        skip(SKIP_no_matmul_library);
        return;
    }
    enum { M = 230, N = 140, K = 96, ROW = 240 };
    static float a[ROW * ROW], b[ROW * ROW], c[ROW * ROW];
    philox_fill_uniform(a, 0, ROW * ROW, 1, 1, -1, 1);
    philox_fill_uniform(b, 0, ROW * ROW, 1, 2, -1, 1);
    for (int i = 0; i < ROW * ROW; i++) c[i] = NAN;
    bool ta = _i & 1, tb = _i & 2;
    matmul_shape s = {.m = M,
                      .n = N,
                      .k = K,
                      .batch = 1,
                      .transpose_a = ta,
                      .transpose_b = tb,
                      .row_a = ROW,
                      .row_b = ROW,
                      .row_c = ROW};
    ck_assert(native_matmul_serves(m, &s));
    ck_assert_int_eq(native_matmul_workspace(m, &s), 0);
    native_matmul_run(m, &s, a, b, c, NULL);
    for (int i = 0; i < M; i++)
        for (int j = 0; j < ROW; j++) {
            double sum = 0;
            for (int k = 0; k < K; k++)
                sum += (double)(ta ? a[k * ROW + i] : a[i * ROW + k]) *
                       (tb ? b[j * ROW + k] : b[k * ROW + j]);
            if (j < N)
                ck_assert(fabs(c[i * ROW + j] - sum) <= K * 0x1p-21);
            else
                ck_assert(isnan(c[i * ROW + j]));
        }
    native_matmul_close(m);
}
END_TEST

START_TEST(what_is_served) {
    brim_error err = {0};
    native_matmul *m = native_matmul_open(libraries[_i], 1, &err);
    if (!m) {
        skip(SKIP_no_matmul_library);
        return;
    }
    const int64_t most = INT32_MAX, more = most + 1;
    const bool wide = libraries[_i] == NATIVE_ONEDNN; // CBLAS counts in int
    const matmul_shape s = {.m = 5,
                            .n = 7,
                            .k = 3,
                            .batch = 2,
                            .row_a = 3,
                            .row_b = 7,
                            .row_c = 7,
                            .batch_a = 15,
                            .batch_c = 35};
    ck_assert(native_matmul_serves(m, &s));
    static const brim_dtype floats[] = {BRIM_F32, BRIM_BF16, BRIM_F16};
    for (int i = 0; i < 9; i++) {
        matmul_shape of = s;
        of.in = floats[i % 3], of.out = floats[i / 3];
        ck_assert(native_matmul_serves(m, &of));
        // Copies in f32, each in whole cache lines: two matrices of A, one of B, two of C.
        int64_t copies = (i % 3 ? 32 + 32 : 0) + (i / 3 ? 80 : 0);
        ck_assert_int_eq(native_matmul_workspace(m, &of), copies * 4);
    }
    matmul_shape x = s;
    x.in = BRIM_I32;
    ck_assert(!native_matmul_serves(m, &x));
    x = s, x.out = BRIM_I32;
    ck_assert(!native_matmul_serves(m, &x));
    x = s, x.batch = INT32_MAX / 1024;
    ck_assert(native_matmul_serves(m, &x));
    x.batch++;
    ck_assert(!native_matmul_serves(m, &x));
    for (int i = 0; i < 6; i++) {
        x = s;
        int64_t *sizes[] = {&x.m, &x.n, &x.k, &x.row_a, &x.row_b, &x.row_c};
        *sizes[i] = most;
        ck_assert(native_matmul_serves(m, &x));
        *sizes[i] = more;
        ck_assert_int_eq(native_matmul_serves(m, &x), wide);
    }
    native_matmul_close(m);
}
END_TEST

// Sums of nothing are 0, in the matrices' rows alone; without rows, columns or matrices there is
// nothing to write.
START_TEST(products_of_nothing) {
    brim_error err = {0};
    native_matmul *m = native_matmul_open(libraries[_i], 2, &err);
    if (!m) {
        skip(SKIP_no_matmul_library);
        return;
    }
    const matmul_shape s = {
        .m = 3, .n = 4, .batch = 2, .row_a = 1, .row_b = 4, .row_c = 6, .batch_c = 20};
    float c[40], one[20] = {1};
    for (int i = 0; i < 40; i++) c[i] = 7;
    for (int empty = 0; empty < 3; empty++) {
        matmul_shape x = s;
        x.k = 1;
        *(int64_t *[]){&x.m, &x.n, &x.batch}[empty] = 0;
        native_matmul_run(m, &x, one, one, c, NULL);
    }
    for (int i = 0; i < 40; i++) ck_assert(c[i] == 7);
    native_matmul_run(m, &s, one, one, c, NULL);
    for (int i = 0; i < 40; i++) ck_assert(c[i] == (i % 20 < 18 && i % 20 % 6 < 4 ? 0 : 7));
    native_matmul_close(m);
}
END_TEST

// Matrices of 16 bits in batches, A's rows apart, B one for all, with the copies in between.
START_TEST(halves_in_batches) {
    enum { M = 9, N = 20, K = 6, B = 3, ROW_A = 8, ROW_C = 24 };
    brim_error err = {0};
    native_matmul *m = native_matmul_open(libraries[_i / 4], 2, &err);
    if (!m) {
        skip(SKIP_no_matmul_library);
        return;
    }
    bool ta = _i & 1, tb = _i & 2;
    uint16_t a[B * 100], b[N * K], c[B * M * ROW_C];
    float workspace[4096];
    matmul_shape s = {.in = BRIM_BF16,
                      .out = BRIM_BF16,
                      .m = M,
                      .n = N,
                      .k = K,
                      .batch = B,
                      .transpose_a = ta,
                      .transpose_b = tb,
                      .row_a = ta ? 10 : ROW_A,
                      .row_b = tb ? K : N,
                      .row_c = ROW_C,
                      .batch_a = 100,
                      .batch_c = M * ROW_C};
    for (int i = 0; i < B * 100; i++) a[i] = bf16_from_f32((float)(i % 7 - 3));
    for (int i = 0; i < N * K; i++) b[i] = bf16_from_f32((float)(i % 5 - 2));
    for (int i = 0; i < B * M * ROW_C; i++) c[i] = 0x1234;
    ck_assert(native_matmul_workspace(m, &s) <= (int64_t)sizeof workspace);
    native_matmul_run(m, &s, a, b, c, workspace);
    for (int i = 0; i < B * M * ROW_C; i++) {
        int batch = i / (M * ROW_C), row = i / ROW_C % M, column = i % ROW_C;
        float sum = 0; // a whole number, of which bf16 has all
        for (int k = 0; k < K && column < N; k++)
            sum += bf16_to_f32(a[batch * 100 + (ta ? k * 10 + row : row * ROW_A + k)]) *
                   bf16_to_f32(b[tb ? column * K + k : k * N + column]);
        ck_assert_uint_eq(c[i], column < N ? bf16_from_f32(sum) : 0x1234);
    }
    native_matmul_close(m);
}
END_TEST

START_TEST(a_library_that_is_missing_is_named) {
    brim_error err = {0};
    native_matmul *m = native_matmul_open(NATIVE_BEST, 1, &err);
    if (m)
        ck_assert(native_matmul_name(m)[0] != '\0');
    else
        ASSERT_FAILS(err, BRIM_DEVICE, "oneDNN cannot be loaded");
    native_matmul_close(m);
}
END_TEST

Suite *native_matmul_suite(void) {
    Suite *suite = suite_create("native_matmul");
    TCase *tests = tcase_create("native_matmul");
    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, every_half_is_widened);
    tcase_add_test(tests, rounding_is_that_of_core);
    tcase_add_loop_test(tests, counts_of_all_kinds, 0, 3);
    tcase_add_loop_test(tests, every_item_is_done_once, 1, 5);
    tcase_add_loop_test(tests, the_same_bits_each_time, 0, LIBRARIES);
    tcase_add_loop_test(tests, products_by_each_library, 0, 4 * LIBRARIES);
    tcase_add_loop_test(tests, what_is_served, 0, LIBRARIES);
    tcase_add_loop_test(tests, products_of_nothing, 0, LIBRARIES);
    tcase_add_loop_test(tests, halves_in_batches, 0, 4 * LIBRARIES);
    tcase_add_test(tests, a_library_that_is_missing_is_named);
    suite_add_tcase(suite, tests);
    return suite;
}
