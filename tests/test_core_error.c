#include <stdio.h>
#include "test_core.h"

START_TEST(first_error_sticks) {
    brim_error err = {0};
    ck_assert(!failed(&err));
    ck_assert_int_eq(brim_fail(&err, BRIM_SHAPE, "first %d", 1), BRIM_SHAPE);
    ck_assert(failed(&err));
    ck_assert_int_eq(brim_fail(&err, BRIM_IO, "second"), BRIM_SHAPE);
    ck_assert_int_eq(err.status, BRIM_SHAPE);
    ck_assert_str_eq(err.text, "first 1");
}
END_TEST

START_TEST(prefix_goes_before_the_text) {
    brim_error err = {0};
    brim_error_prefix(&err, "nothing is wrong");
    ck_assert_str_eq(err.text, "");
    brim_fail(&err, BRIM_FORMAT, "field is 3");
    brim_error_prefix(&err, "tensor %s", "w");
    brim_error_prefix(&err, "file %s", "a.bin");
    ck_assert_str_eq(err.text, "file a.bin: tensor w: field is 3");
    ck_assert_int_eq(err.status, BRIM_FORMAT);
}
END_TEST

START_TEST(long_texts_are_cut_and_say_so) {
    char name[3000];
    memset(name, 'n', sizeof name - 1);
    name[sizeof name - 1] = '\0';
    brim_error err = {0};
    brim_fail(&err, BRIM_IO, "%s", name);
    ck_assert_uint_eq(strlen(err.text), sizeof err.text - 1);
    ck_assert_str_eq(err.text + sizeof err.text - 4, "...");
    brim_error_prefix(&err, "short");
    ck_assert_uint_eq(strlen(err.text), sizeof err.text - 1);
    ck_assert_int_eq(strncmp(err.text, "short: nnn", 10), 0);
    ck_assert_str_eq(err.text + sizeof err.text - 4, "...");

    err = (brim_error){0};
    brim_fail(&err, BRIM_IO, "the reason");
    brim_error_prefix(&err, "%s", name);
    ck_assert_ptr_nonnull(strstr(err.text, "...: the reason"));
}
END_TEST

START_TEST(text_is_one_printable_line) {
    brim_error err = {0};
    brim_fail(&err, BRIM_IO, "a\nb\x1b[31mc\x7f");
    ck_assert_str_eq(err.text, "a?b?[31mc?");
    brim_error_prefix(&err, "x\ty");
    ck_assert_str_eq(err.text, "x?y: a?b?[31mc?");
}
END_TEST

START_TEST(statuses_have_names) {
    ck_assert_str_eq(brim_status_name(BRIM_OK), "ok");
    ck_assert_str_eq(brim_status_name(BRIM_SHAPE), "shape");
    ck_assert_str_eq(brim_status_name(BRIM_CANCELLED), "cancelled");
    ck_assert_str_eq(brim_status_name((brim_status)1000), "unknown");
    ck_assert_str_eq(brim_status_name((brim_status)-1), "unknown");
}
END_TEST

START_TEST(report_returns_an_exit_code) {
    brim_error err = {0};
    ck_assert_int_eq(brim_error_report(&err), 0);
    brim_fail(&err, BRIM_IO, "(this line belongs to a test)");
    ck_assert_int_eq(brim_error_report(&err), 1);
}
END_TEST

Suite *core_error_suite(void) {
    Suite *suite = suite_create("core/error");
    TCase *tests = tcase_create("error");
    tcase_add_test(tests, first_error_sticks);
    tcase_add_test(tests, prefix_goes_before_the_text);
    tcase_add_test(tests, long_texts_are_cut_and_say_so);
    tcase_add_test(tests, text_is_one_printable_line);
    tcase_add_test(tests, statuses_have_names);
    tcase_add_test(tests, report_returns_an_exit_code);
    suite_add_tcase(suite, tests);
    return suite;
}
