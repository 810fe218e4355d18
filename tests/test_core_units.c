#include <locale.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include "core/half.h"
#include "core/number.h"
#include "core/philox.h"
#include "core/units.h"
#include "test_core.h"

START_TEST(numbers_print_shortly) {
    static const struct {
        double value;
        const char *text;
    } cases[] = {{0, "0"},
                 {-0.0, "-0"},
                 {1, "1"},
                 {0.1, "0.1"},
                 {1e-8, "1e-08"},
                 {1.0 / 3, "0.3333333333333333"},
                 {0.1 + 0.2, "0.30000000000000004"},
                 {-1e300, "-1e+300"},
                 {NAN, "nan"},
                 {INFINITY, "inf"},
                 {-INFINITY, "-inf"},
                 {5e-324, "4.94065645841247e-324"},
                 {1.7976931348623157e308, "1.7976931348623157e+308"}};
    char text[NUMBER_TEXT];
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        number_print(cases[i].value, text);
        ck_assert_str_eq(text, cases[i].text);
    }
    number_print_f32(0.1f, text);
    ck_assert_str_eq(text, "0.1");
    number_print_f32(16777217.0f, text);
    ck_assert_str_eq(text, "16777216");
    number_print_f32(1 + 0x1p-23f, text);
    ck_assert_str_eq(text, "1.0000001");
    number_print_f32(-INFINITY, text);
    ck_assert_str_eq(text, "-inf");
}
END_TEST

START_TEST(numbers_round_trip) {
    char text[NUMBER_TEXT];
    for (uint64_t i = 0; i < 20000; i++) {
        philox_block random = philox_at(11, 0, i);
        uint64_t bits = (uint64_t)random.v[0] << 32 | random.v[1];
        double value, back = 0;
        memcpy(&value, &bits, sizeof value);
        if (!isfinite(value)) continue;
        number_print(value, text);
        ck_assert_msg(number_parse(text, &back), "%s", text);
        ck_assert_mem_eq(&back, &value, sizeof value);

        float single = f32_from_bits(random.v[2]);
        if (!isfinite(single)) continue;
        number_print_f32(single, text);
        ck_assert_msg(number_parse(text, &back), "%s", text);
        ck_assert_uint_eq(f32_bits((float)back), f32_bits(single));
    }
}
END_TEST

// Runs only where such a locale is installed; numbers_round_trip covers the rest.
START_TEST(numbers_ignore_the_locale) {
    static const char *const locales[] = {"de_DE.UTF-8", "fr_FR.UTF-8", "de_DE", "fr_FR"};
    for (size_t i = 0; i < sizeof locales / sizeof *locales; i++) {
        if (!setlocale(LC_ALL, locales[i])) continue;
        char text[NUMBER_TEXT];
        double value = 0;
        number_print(1.5, text);
        ck_assert_str_eq(text, "1.5");
        ck_assert(number_parse("1.5", &value) && value == 1.5);
        ck_assert(!number_parse("1,5", &value));
        setlocale(LC_ALL, "C");
    }
}
END_TEST

START_TEST(numbers_leave_the_locale) {
    char text[NUMBER_TEXT];
    double value;
    number_print(0.1, text);
    ck_assert(number_parse("2.5", &value));
    ck_assert_ptr_eq(uselocale((locale_t)0), LC_GLOBAL_LOCALE);
}
END_TEST

START_TEST(numbers_reject_the_rest) {
    static const char *const bad[] = {"",     " ",     "1 ",     " 1",  "abc", "1.2.3", ".",
                                      "1e",   "1e+",   "0x10",   "inf", "nan", "--1",   "1,5",
                                      "1e5x", "1e999", "-1e999", "+-1", "1_0"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        double value = 7;
        ck_assert_msg(!number_parse(bad[i], &value), "\"%s\" was read", bad[i]);
        ck_assert(value == 7);
    }
    double value;
    ck_assert(number_parse("-.5e+2", &value) && value == -50);
    ck_assert(number_parse("5.", &value) && value == 5);
    ck_assert(number_parse("+2E3", &value) && value == 2000);
    ck_assert(number_parse("25e-2", &value) && value == 0.25);
}
END_TEST

START_TEST(integers) {
    brim_error err = {0};
    int64_t value = 7;
    ck_assert(parse_i64("42", "--layers", 1, 100, &value, &err) && value == 42);
    ck_assert(parse_i64("-9223372036854775808", "n", INT64_MIN, 0, &value, &err));
    ck_assert(value == INT64_MIN);
    ck_assert(parse_i64("+1", "n", 1, 1, &value, &err) && value == 1);
    ASSERT_FINE(err);
    static const char *const bad[] = {"", "1.5", "abc", "12abc", " 1", "1 ", "0x10", "1e3", "-"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        ck_assert(!parse_i64(bad[i], "--layers", 0, 100, &value, &err));
        ASSERT_FAILS(err, BRIM_ARGUMENT, "is not an integer");
    }
    static const char *const wide[] = {"0", "101", "-1", "9223372036854775808",
                                       "99999999999999999999999"};
    for (size_t i = 0; i < sizeof wide / sizeof *wide; i++) {
        ck_assert(!parse_i64(wide[i], "--layers", 1, 100, &value, &err));
        ck_assert_ptr_nonnull(strstr(err.text, "--layers"));
        ASSERT_FAILS(err, BRIM_ARGUMENT, "out of range, expected 1 to 100");
    }
    ck_assert(value == 1);
    ck_assert(parse_i64("-3", "n", -3, 8, &value, &err) && value == -3);
    ck_assert(parse_i64("8", "n", -3, 8, &value, &err) && value == 8);
    ASSERT_FINE(err);
    brim_fail(&err, BRIM_IO, "earlier");
    ck_assert(!parse_i64("5", "n", -3, 8, &value, &err) && value == 8);
}
END_TEST

START_TEST(decimals) {
    brim_error err = {0};
    double value = 7;
    ck_assert(parse_f64("0", "--lr", 0, 1, &value, &err) && value == 0);
    ck_assert(parse_f64("1", "--lr", 0, 1, &value, &err) && value == 1);
    ck_assert(!parse_f64("-0.25", "--lr", 0, 1, &value, &err));
    ASSERT_FAILS(err, BRIM_ARGUMENT, "--lr: -0.25 is out of range, expected 0 to 1");
    ck_assert(parse_f64("3e-4", "--lr", 0, 1, &value, &err) && value == 3e-4);
    ck_assert(!parse_f64("1.5", "--lr", 0, 1, &value, &err));
    ASSERT_FAILS(err, BRIM_ARGUMENT, "--lr: 1.5 is out of range, expected 0 to 1");
    ck_assert(!parse_f64("nan", "--lr", 0, 1, &value, &err));
    ASSERT_FAILS(err, BRIM_ARGUMENT, "\"nan\" is not a decimal number");
    brim_fail(&err, BRIM_IO, "earlier");
    ck_assert(!parse_f64("0.5", "--lr", 0, 1, &value, &err));
    ck_assert(value == 3e-4);
}
END_TEST

START_TEST(byte_sizes) {
    static const struct {
        const char *text;
        int64_t bytes;
    } cases[] = {{"0", 0},
#define ZEROS_60 "000000000000000000000000000000000000000000000000000000000000"
                 {ZEROS_60 "1.5kb", 1500}, // 63 characters of number
                 {"4096", 4096},
                 {"17b", 17},
                 {"1k", 1024},
                 {"8G", (int64_t)8 << 30},
                 {"8g", (int64_t)8 << 30},
                 {"512M", 512 << 20},
                 {"1.5GiB", (int64_t)3 << 29},
                 {"1.5 gib", (int64_t)3 << 29},
                 {"10MB", 10000000},
                 {"2TB", 2000000000000},
                 {"0.3", 0},
                 {"1.5 k", 1536},
                 {"3 KiB", 3 << 10},
                 {"2kb", 2000},
                 {"7 m", 7 << 20},
                 {"7Mib", 7 << 20},
                 {"4gb", 4000000000},
                 {"3t", (int64_t)3 << 40},
                 {"0.5TiB", (int64_t)1 << 39},
                 {"8388607.5T", INT64_MAX - ((int64_t)1 << 39) + 1},
                 {"8388607T", INT64_MAX - ((int64_t)1 << 40) + 1},
                 {"9223372036854775807", INT64_MAX}};
    brim_error err = {0};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int64_t bytes = -1;
        ck_assert(parse_bytes(cases[i].text, "--vram", &bytes, &err));
        ASSERT_FINE(err);
        ck_assert_int_eq(bytes, cases[i].bytes);
    }
    int64_t bytes = 7;
    static const char *const bad[] = {
        "",       "G",   "8X",  "8Gi", "8 ", "8  G",  "-8G", "8G8",
        "1.5.5G", "0x8", "8e9", "GiB", ".",  "8GiBs", " 8",  ZEROS_60 "01.5kb"};
#undef ZEROS_60
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        ck_assert_msg(!parse_bytes(bad[i], "--vram", &bytes, &err), "\"%s\" was read", bad[i]);
        ASSERT_FAILS(err, BRIM_ARGUMENT, "is not a size");
    }
    static const char *const wide[] = {"8388608T", "9223372036854775808", "8388608.5TiB",
                                       "8388608.0T", "99999999999999999999999999T"};
    for (size_t i = 0; i < sizeof wide / sizeof *wide; i++) {
        ck_assert(!parse_bytes(wide[i], "--vram", &bytes, &err));
        ASSERT_FAILS(err, BRIM_ARGUMENT, "out of range");
    }
    ck_assert_int_eq(bytes, 7);
}
END_TEST

START_TEST(texts_for_people) {
    char text[UNITS_TEXT];
    ck_assert_str_eq(format_bytes(0, text), "0 B");
    ck_assert_str_eq(format_bytes(1023, text), "1023 B");
    ck_assert_str_eq(format_bytes(-1023, text), "-1023 B");
    ck_assert_str_eq(format_bytes(1024, text), "1.0 KiB");
    ck_assert_str_eq(format_bytes(-1024, text), "-1.0 KiB");
    ck_assert_str_eq(format_bytes(1048524, text), "1023.9 KiB");
    ck_assert_str_eq(format_bytes(1048525, text), "1.0 MiB");
    ck_assert_str_eq(format_bytes(-1048575, text), "-1.0 MiB");
    ck_assert_str_eq(format_bytes((int64_t)5 << 39, text), "2.5 TiB");
    ck_assert_str_eq(format_bytes((int64_t)1023 << 50, text), "1023.0 PiB");
    ck_assert_str_eq(format_bytes(3435973837, text), "3.2 GiB");
    ck_assert_str_eq(format_bytes(INT64_MAX, text), "8.0 EiB");
    ck_assert_str_eq(format_bytes(INT64_MIN, text), "-8.0 EiB");
    ck_assert_str_eq(format_seconds(0, text), "0.0 s");
    ck_assert_str_eq(format_seconds(59.94, text), "59.9 s");
    ck_assert_str_eq(format_seconds(59.95, text), "1 min 00 s"); // not 60.0 s
    ck_assert_str_eq(format_seconds(185, text), "3 min 05 s");
    ck_assert_str_eq(format_seconds(3599.4, text), "59 min 59 s");
    ck_assert_str_eq(format_seconds(3599.5, text), "1 h 00 min");
    ck_assert_str_eq(format_seconds(7620, text), "2 h 07 min");
    ck_assert_str_eq(format_seconds(86399, text), "23 h 59 min");
    ck_assert_str_eq(format_seconds(86400, text), "1 d 00 h");
    ck_assert_str_eq(format_seconds(273600, text), "3 d 04 h");
    ck_assert_str_eq(format_seconds(0x1p39, text), "6362914 d 12 h");
    ck_assert_str_eq(format_seconds(1e12, text), "-");
    ck_assert_str_eq(format_seconds(NAN, text), "-");
    ck_assert_str_eq(format_seconds(INFINITY, text), "-");
    ck_assert_str_eq(format_seconds(-1, text), "-");
    ck_assert_str_eq(format_count(950, text), "950");
    ck_assert_str_eq(format_count(0.12345, text), "0.1235");
    ck_assert_str_eq(format_count(999.25, text), "999.2");
    ck_assert_str_eq(format_count(999.5, text), "1K"); // not 999.5, and three digits are shown
    ck_assert_str_eq(format_count(-12345, text), "-12.3K");
    ck_assert_str_eq(format_count(7e6, text), "7M");
    ck_assert_str_eq(format_count(2.5e12, text), "2.5T");
    ck_assert_str_eq(format_count(1e15, text), "1P");
    ck_assert_str_eq(format_count(1e18, text), "1e+03P");
    ck_assert_str_eq(format_count(12345, text), "12.3K");
    ck_assert_str_eq(format_count(8.03e9, text), "8.03G");
}
END_TEST

Suite *core_units_suite(void) {
    Suite *suite = suite_create("core/units");
    TCase *tests = tcase_create("units");
    tcase_add_test(tests, numbers_print_shortly);
    tcase_add_test(tests, numbers_round_trip);
    tcase_add_test(tests, numbers_ignore_the_locale);
    tcase_add_test(tests, numbers_leave_the_locale);
    tcase_add_test(tests, numbers_reject_the_rest);
    tcase_add_test(tests, integers);
    tcase_add_test(tests, decimals);
    tcase_add_test(tests, byte_sizes);
    tcase_add_test(tests, texts_for_people);
    suite_add_tcase(suite, tests);
    return suite;
}
