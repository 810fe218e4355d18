#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include "core/utf8.h"
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

// The longest text that is kept, and one byte more; the same of a prefix, which may take up half.
START_TEST(what_just_fits_is_not_cut) {
    enum { WHOLE = sizeof((brim_error *)0)->text - 1, HALF = (WHOLE + 1) / 2 - 1 };
    char name[WHOLE + 2];
    memset(name, 'n', sizeof name);
    for (int more = 0; more < 2; more++) {
        brim_error err = {0};
        brim_fail(&err, BRIM_IO, "%.*s", WHOLE + more, name);
        ck_assert_uint_eq(strlen(err.text), WHOLE);
        ck_assert_uint_eq(strspn(err.text, "n"), WHOLE - 3 * more);

        err = (brim_error){0};
        brim_fail(&err, BRIM_IO, "the reason");
        brim_error_prefix(&err, "%.*s", HALF + more, name);
        ck_assert_uint_eq(strspn(err.text, "n"), HALF - 3 * more);
        ck_assert_str_eq(err.text + HALF, ": the reason");

        err = (brim_error){0};
        brim_fail(&err, BRIM_IO, "%.*s", WHOLE - 3 + more, name);
        brim_error_prefix(&err, "p");
        ck_assert_uint_eq(strlen(err.text), WHOLE);
        ck_assert_uint_eq(strspn(err.text + 3, "n"), WHOLE - 3 - 3 * more);
    }
}
END_TEST

START_TEST(text_is_one_printable_line) {
    brim_error err = {0};
    brim_fail(&err, BRIM_IO, "a\nb\x1b[31mc\x7f");
    ck_assert_str_eq(err.text, "a?b?[31mc?");
    brim_error_prefix(&err, "x\ty");
    ck_assert_str_eq(err.text, "x?y: a?b?[31mc?");

    // The first and the last ones of each kind, and their neighbours.
    err = (brim_error){0};
    brim_fail(&err, BRIM_IO, "\x01\x1f ~\x7f\xc2\x80\xc2\x9f\xc2\xa0\xc3\x80");
    ck_assert_str_eq(err.text, "?? ~?????\xc2\xa0\xc3\x80");

    // Control characters of two bytes, and what is no UTF-8; what people write stays.
    err = (brim_error){0};
    brim_fail(&err, BRIM_IO,
              "\xc2\x9b"
              "31m\xc2\x85\xff\xc3(\xc3\xa4\xc2\xa0\xe2\x82\xac\xf0\x9f\x99\x82");
    ck_assert_str_eq(err.text, "??31m???"
                               "?(\xc3\xa4\xc2\xa0\xe2\x82\xac\xf0\x9f\x99\x82");
}
END_TEST

// A cut goes through a character of several bytes wherever it falls.
START_TEST(cut_texts_are_whole_characters) {
    char euros[1600], shifted[1640];
    for (int i = 0; i < 1599; i++) euros[i] = "\xe2\x82\xac"[i % 3];
    euros[1599] = '\0';
    for (int shift = 0; shift < 3; shift++) {
        brim_error err = {0};
        snprintf(shifted, sizeof shifted, "%.*s%s", shift, "ab", euros);
        brim_fail(&err, BRIM_IO, "%s", shifted);
        for (int i = 0; i < 2; i++) {
            for (const char *c = err.text; *c; c += utf8_length(c))
                ck_assert_msg(utf8_length(c) > 0, "no UTF-8: %s", err.text);
            ck_assert_uint_eq(strlen(err.text), sizeof err.text - 1);
            brim_error_prefix(&err, "%.*s%s", shift, "ab", euros);
        }
    }
}
END_TEST

// Bytes of a code point in UTF-8, by the definition.
static int encode(uint32_t code, unsigned char bytes[5]) {
    int length = code < 0x80 ? 1 : code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
    static const unsigned char marks[] = {0, 0, 0xc0, 0xe0, 0xf0};
    for (int i = length - 1; i > 0; i--, code >>= 6) bytes[i] = (unsigned char)(0x80 | code % 64);
    bytes[0] = (unsigned char)(marks[length] | code);
    bytes[length] = '\0';
    return length;
}

START_TEST(every_code_point_is_a_character) {
    unsigned char bytes[5];
    for (uint32_t code = 1; code < 0x110000; code++) {
        bool surrogate = code >= 0xd800 && code < 0xe000;
        int length = encode(code, bytes);
        ASSERT_QUICKLY(utf8_length((char *)bytes) == (surrogate ? 0 : length));
        for (int i = 1; i < length && code % 61 == 0; i++) { // and not without its last bytes
            unsigned char whole = bytes[i];
            static const unsigned char others[] = {0, 0x7f, 0xc0, 0xff};
            for (int k = 0; k < 4; k++) {
                bytes[i] = others[k];
                ASSERT_QUICKLY(utf8_length((char *)bytes) == 0);
            }
            bytes[i] = whole;
        }
    }
}
END_TEST

// Two bytes that begin no code point, each with as many behind them as a character may have.
START_TEST(nothing_else_is_a_character) {
    static bool begins[1 << 16];
    for (uint32_t code = 0x80; code < 0x110000; code++) {
        unsigned char bytes[5];
        encode(code, bytes);
        if (code < 0xd800 || code >= 0xe000) begins[bytes[0] << 8 | bytes[1]] = true;
    }
    for (int pair = 0x8000; pair < 1 << 16; pair++) {
        const char text[] = {(char)(pair >> 8), (char)pair, (char)0x80, (char)0x80, 0};
        ASSERT_QUICKLY(begins[pair] == (utf8_length(text) > 0));
    }
}
END_TEST

START_TEST(statuses_have_names) {
    ck_assert_str_eq(brim_status_name(BRIM_OK), "ok");
    ck_assert_str_eq(brim_status_name(BRIM_SHAPE), "shape");
    ck_assert_str_eq(brim_status_name(BRIM_CANCELLED), "cancelled");
    ck_assert_str_eq(brim_status_name((brim_status)(BRIM_CANCELLED + 1)), "unknown");
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
    tcase_add_test(tests, what_just_fits_is_not_cut);
    tcase_add_test(tests, text_is_one_printable_line);
    tcase_add_test(tests, cut_texts_are_whole_characters);
    tcase_add_test(tests, every_code_point_is_a_character);
    tcase_add_test(tests, nothing_else_is_a_character);
    tcase_add_test(tests, statuses_have_names);
    tcase_add_test(tests, report_returns_an_exit_code);
    suite_add_tcase(suite, tests);
    return suite;
}
