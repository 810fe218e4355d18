// Shapes: their text, comparison, broadcasting, and what is none.
#include <check.h>
#include <stdio.h>
#include <string.h>
#include "graph/shape.h"

START_TEST(shapes_print_and_compare) {
    char text[SHAPE_TEXT], small[6];
    shape full = {6, {INT64_MAX, INT64_MAX, INT64_MAX, INT64_MAX, INT64_MAX, INT64_MAX}};
    ck_assert_str_eq(shape_print(&(shape){0}, text, sizeof text), "[]");
    ck_assert_str_eq(shape_print(&(shape){3, {8, 256, 384}}, text, sizeof text), "[8, 256, 384]");
    ck_assert_uint_lt(strlen(shape_print(&full, text, sizeof text)) + 1, sizeof text);
    ck_assert_int_eq(text[strlen(text) - 1], ']');
    ck_assert_str_eq(shape_print(&(shape){3, {8, 256, 384}}, small, sizeof small), "[8, 2");
    ck_assert(shape_elements(&(shape){0}) == 1);
    ck_assert(shape_elements(&(shape){3, {8, 256, 384}}) == 786432);
    ck_assert(shape_equal(&(shape){2, {2, 3, 9}}, &(shape){2, {2, 3, 7}}));
    ck_assert(!shape_equal(&(shape){2, {2, 3}}, &(shape){3, {2, 3, 1}}));
}
END_TEST

// What does not fit a buffer is cut, and ended, within it.
START_TEST(shapes_are_cut_to_the_buffer) {
    static const struct {
        shape s;
        const char *text;
    } rows[] = {
        {{0}, "[]"},
        {{1, {7}}, "[7]"},
        {{3, {8, 256, -1}}, "[8, 256, -1]"},
        {{6, {1, 2, 3, 4, 5, 6}}, "[1, 2, 3, 4, 5, 6]"},
        {{7, {1, 2, 3, 4, 5, 6}}, "[1, 2, 3, 4, 5, 6]"}, // no shape, which is said
        {{-1, {1}}, "[]"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        for (size_t size = 1; size < 30; size++) {
            char text[64], expected[64];
            memset(text, '#', sizeof text);
            shape_print(&rows[i].s, text, size);
            snprintf(expected, size, "%s", rows[i].text);
            ck_assert_str_eq(text, expected);
            for (size_t k = size; k < sizeof text; k++) ck_assert_int_eq(text[k], '#');
        }
    }
}
END_TEST

START_TEST(shapes_are_checked) {
    static const struct {
        shape s;
        brim_dtype dtype;
        const char *reason; // NULL: fine
    } rows[] = {
        {{0}, BRIM_F32, NULL},
        {{6, {1, 1, 1, 1, 1, 1}}, BRIM_F32, NULL},
        {{7, {1, 1, 1, 1, 1, 1}}, BRIM_F32, "7 axes; up to 6 are allowed"},
        {{-1, {1}}, BRIM_F32, "-1 axes; up to 6 are allowed"},
        {{1, {0}}, BRIM_F32, "axis 0 has extent 0; at least 1 is expected"},
        {{3, {2, 3, -4}}, BRIM_F32, "axis 2 has extent -4; at least 1 is expected"},
        {{2, {(int64_t)1 << 31, (int64_t)1 << 29}}, BRIM_F32, NULL},
        {{2, {(int64_t)1 << 31, (int64_t)1 << 30}}, BRIM_BF16, NULL},
        {{2, {(int64_t)1 << 31, (int64_t)1 << 30}},
         BRIM_F32,
         "the bytes of such a tensor exceed 2^63"},
        {{1, {INT64_MAX / 4 + 1}}, BRIM_F32, "the bytes of such a tensor exceed 2^63"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char reason[200] = "";
        bool fine = shape_check(&rows[i].s, rows[i].dtype, reason, sizeof reason);
        ck_assert_int_eq(fine, !rows[i].reason);
        ck_assert_str_eq(reason, fine ? "" : rows[i].reason);
    }
    static const int64_t dims[7] = {2, 3, 4, 5, 6, 7, 8};
    shape s = {1, {9, 9, 9, 9, 9, 9}};
    ck_assert(!shape_make(-1, dims, &s) && !shape_make(7, dims, &s) && !shape_make(1, NULL, &s));
    ck_assert(shape_make(6, dims, &s) && s.rank == 6 && s.dim[0] == 2 && s.dim[5] == 7);
    ck_assert(shape_make(2, dims, &s) && s.rank == 2 && s.dim[1] == 3 && s.dim[2] == 0);
    ck_assert(shape_make(0, NULL, &s) && s.rank == 0 && s.dim[0] == 0);
}
END_TEST

START_TEST(shapes_broadcast) {
    static const shape rows[][3] = {
        // two, and what they broadcast to; rank -1: nothing
        {{2, {2, 3}}, {2, {2, 3}}, {2, {2, 3}}},       {{2, {2, 1}}, {2, {1, 3}}, {2, {2, 3}}},
        {{3, {4, 1, 3}}, {2, {2, 1}}, {3, {4, 2, 3}}}, {{1, {3}}, {3, {4, 2, 1}}, {3, {4, 2, 3}}},
        {{0, {0}}, {2, {2, 3}}, {2, {2, 3}}},          {{1, {1}}, {0, {0}}, {1, {1}}},
        {{2, {2, 3}}, {2, {3, 3}}, {-1, {0}}},         {{2, {2, 3}}, {1, {2}}, {-1, {0}}},
        {{3, {4, 2, 3}}, {2, {4, 3}}, {-1, {0}}},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        for (int turned = 0; turned < 2; turned++) {
            shape s = {1, {99}};
            bool fits = shape_broadcast(&rows[i][turned], &rows[i][!turned], &s);
            ck_assert_int_eq(fits, rows[i][2].rank >= 0);
            ck_assert(shape_equal(&s, fits ? &rows[i][2] : &(shape){1, {99}}));
        }
    }
}
END_TEST

Suite *shape_suite(void) {
    Suite *suite = suite_create("graph/shape");
    TCase *tests = tcase_create("shapes");
    tcase_add_test(tests, shapes_print_and_compare);
    tcase_add_test(tests, shapes_are_cut_to_the_buffer);
    tcase_add_test(tests, shapes_are_checked);
    tcase_add_test(tests, shapes_broadcast);
    suite_add_tcase(suite, tests);
    return suite;
}
