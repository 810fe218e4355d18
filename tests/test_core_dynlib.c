// The C library's own mathematics stands for a driver.
#include <math.h>
#include "core/clock.h"
#include "core/dynlib.h"
#include "test_core.h"

typedef struct maths {
    double (*cos)(double);
    double (*sine)(double);
    double (*absent)(double);
} maths;

static const char *const names[] = {"libbrim-test-none.so.7", "libm.so.6", NULL};

static const dynlib_symbol symbols[] = {
    DYNLIB_REQUIRED(maths, cos),
    DYNLIB_REQUIRED_AS(maths, sine, "sin"),
    DYNLIB_OPTIONAL(maths, absent),
};

START_TEST(fills_the_table) {
    brim_error err = {0};
    dynlib library = {0};
    maths functions = {.absent = fabs};
    const dynlib_table table = {"mathematics", names, symbols, 3};
    ck_assert(dynlib_open(&library, &table, &functions, &err));
    ASSERT_FINE(err);
    ck_assert_str_eq(library.name, "libm.so.6");
    ck_assert(functions.cos(0) == 1);
    ck_assert(functions.sine(0) == 0);
    ck_assert(!functions.absent);
    dynlib_close(&library);
    ck_assert_ptr_null(library.handle);
    dynlib_close(&library);
}
END_TEST

START_TEST(names_what_is_missing) {
    brim_error err = {0};
    dynlib library = {0};
    maths functions = {.cos = fabs};
    static const char *const none[] = {"libbrim-test-none.so.7", "libbrim-test-none.so", NULL};
    const dynlib_table no_library = {"mathematics", none, symbols, 3};
    ck_assert(!dynlib_open(&library, &no_library, &functions, &err));
    ck_assert_ptr_nonnull(strstr(err.text, "libbrim-test-none.so.7"));
    ASSERT_FAILS(err, BRIM_DEVICE, "mathematics cannot be loaded");
    ck_assert(!functions.cos);

    static const dynlib_symbol wrong[] = {DYNLIB_REQUIRED(maths, cos),
                                          DYNLIB_REQUIRED(maths, absent)};
    const dynlib_table no_symbol = {"mathematics", names, wrong, 2};
    ck_assert(!dynlib_open(&library, &no_symbol, &functions, &err));
    ASSERT_FAILS(err, BRIM_DEVICE, "libm.so.6: it has no symbol absent");
    ck_assert(!functions.cos);
    ck_assert_ptr_null(library.handle);

    brim_fail(&err, BRIM_IO, "earlier");
    const dynlib_table table = {"mathematics", names, symbols, 3};
    ck_assert(!dynlib_open(&library, &table, &functions, &err));
    ASSERT_FAILS(err, BRIM_IO, "earlier");
}
END_TEST

START_TEST(clock_goes_forward) {
    double start = clock_seconds(), now = start;
    while (now == start) now = clock_seconds();
    ck_assert(now > start && now < start + 10);
}
END_TEST

Suite *core_dynlib_suite(void) {
    Suite *suite = suite_create("core/dynlib");
    TCase *tests = tcase_create("dynlib");
    tcase_add_test(tests, fills_the_table);
    tcase_add_test(tests, names_what_is_missing);
    tcase_add_test(tests, clock_goes_forward);
    suite_add_tcase(suite, tests);
    return suite;
}
