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
    ck_assert(native_matmul_name(m)[0] != '\0');
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
    tcase_add_loop_test(tests, every_item_is_done_once, 1, 5);
    tcase_add_loop_test(tests, the_same_bits_each_time, 0, LIBRARIES);
    tcase_add_loop_test(tests, products_by_each_library, 0, 4 * LIBRARIES);
    tcase_add_test(tests, a_library_that_is_missing_is_named);
    suite_add_tcase(suite, tests);
    return suite;
}
