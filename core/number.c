#define _POSIX_C_SOURCE 200809L
#include "core/number.h"

#include <locale.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// Some locales write a decimal comma, which may be several bytes long.
static void use_point(char *text) {
    char *out = text;
    for (const char *in = text; *in; in++) {
        if (strchr("0123456789eE+-", *in))
            *out++ = *in;
        else if (out == text || out[-1] != '.')
            *out++ = '.';
    }
    *out = '\0';
}

static double read_in_c_locale(const char *text) {
    locale_t plain = newlocale(LC_ALL_MASK, "C", (locale_t)0);
    locale_t former = plain ? uselocale(plain) : (locale_t)0;
    double value = strtod(text, NULL);
    if (plain) {
        uselocale(former);
        freelocale(plain);
    }
    return value;
}

static bool print_special(double value, char text[NUMBER_TEXT]) {
    if (isfinite(value)) return false;
    strcpy(text, isnan(value) ? "nan" : signbit(value) ? "-inf" : "inf");
    return true;
}

void number_print(double value, char text[NUMBER_TEXT]) {
    if (print_special(value, text)) return;
    for (int digits = 15; digits <= 17; digits++) { // 17 always suffice
        snprintf(text, NUMBER_TEXT, "%.*g", digits, value);
        if (strtod(text, NULL) == value) break;
    }
    use_point(text);
}

void number_print_f32(float value, char text[NUMBER_TEXT]) {
    if (print_special(value, text)) return;
    for (int digits = 6; digits <= 9; digits++) { // 9 always suffice
        snprintf(text, NUMBER_TEXT, "%.*g", digits, (double)value);
        if (strtof(text, NULL) == value) break;
    }
    use_point(text);
}

// One sign, digits with at most one point, and perhaps an exponent with digits.
static bool is_decimal(const char *text) {
    if (*text == '+' || *text == '-') text++;
    size_t whole = strspn(text, "0123456789");
    text += whole;
    size_t fraction = 0;
    if (*text == '.') {
        fraction = strspn(++text, "0123456789");
        text += fraction;
    }
    if (whole + fraction == 0) return false;
    if (*text == 'e' || *text == 'E') {
        text++;
        if (*text == '+' || *text == '-') text++;
        size_t exponent = strspn(text, "0123456789");
        if (exponent == 0) return false;
        text += exponent;
    }
    return *text == '\0';
}

bool number_parse(const char *text, double *value) {
    if (!is_decimal(text)) return false;
    double result = read_in_c_locale(text);
    if (!isfinite(result)) return false;
    *value = result;
    return true;
}
