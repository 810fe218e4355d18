#include "core/units.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <brim/report.h>
#include "core/number.h"
#include "core/size.h"

static const char digits[] = "0123456789";

typedef enum integer_kind { NOT_INTEGER, TOO_LONG, INTEGER } integer_kind;

static integer_kind read_integer(const char *text, int64_t *value) {
    size_t sign = *text == '-' || *text == '+';
    size_t length = strspn(text + sign, digits);
    if (length == 0 || text[sign + length] != '\0') return NOT_INTEGER;
    errno = 0;
    long long number = strtoll(text, NULL, 10);
    if (errno == ERANGE || number > INT64_MAX || number < INT64_MIN) return TOO_LONG;
    *value = number;
    return INTEGER;
}

bool parse_i64(const char *text, const char *name, int64_t min, int64_t max, int64_t *out,
               brim_error *err) {
    if (failed(err)) return false;
    int64_t value = 0;
    integer_kind kind = read_integer(text, &value);
    if (kind == NOT_INTEGER) {
        brim_fail(err, BRIM_ARGUMENT, "%s: \"%s\" is not an integer", name, text);
    } else if (kind == TOO_LONG || value < min || value > max) {
        brim_fail(err, BRIM_ARGUMENT, "%s: %s is out of range, expected %lld to %lld", name, text,
                  (long long)min, (long long)max);
    } else {
        *out = value;
    }
    return !failed(err);
}

bool parse_f64(const char *text, const char *name, double min, double max, double *out,
               brim_error *err) {
    if (failed(err)) return false;
    double value;
    if (!number_parse(text, &value)) {
        brim_fail(err, BRIM_ARGUMENT, "%s: \"%s\" is not a decimal number", name, text);
    } else if (!(value >= min && value <= max)) {
        char low[NUMBER_TEXT], high[NUMBER_TEXT];
        number_print(min, low);
        number_print(max, high);
        brim_fail(err, BRIM_ARGUMENT, "%s: %s is out of range, expected %s to %s", name, text, low,
                  high);
    } else {
        *out = value;
    }
    return !failed(err);
}

typedef struct unit {
    const char *name;
    int64_t bytes;
} unit;

#define POWER_2(n) ((int64_t)1 << (n))

static const unit units[] = {
    {"", 1},
    {"b", 1},
    {"k", POWER_2(10)},
    {"kib", POWER_2(10)},
    {"kb", 1000},
    {"m", POWER_2(20)},
    {"mib", POWER_2(20)},
    {"mb", 1000000},
    {"g", POWER_2(30)},
    {"gib", POWER_2(30)},
    {"gb", 1000000000},
    {"t", POWER_2(40)},
    {"tib", POWER_2(40)},
    {"tb", 1000000000000},
};

static bool equal_but_case(const char *a, const char *b) {
    while (*a && tolower((unsigned char)*a) == *b) a++, b++;
    return *a == *b;
}

static const unit *find_unit(const char *name) {
    for (size_t i = 0; i < sizeof units / sizeof *units; i++) {
        if (equal_but_case(name, units[i].name)) return &units[i];
    }
    return NULL;
}

typedef enum bytes_kind { NOT_BYTES, TOO_MANY, BYTES } bytes_kind;

static bytes_kind read_bytes(const char *text, int64_t *bytes) {
    char number[64];
    size_t length = strspn(text, "0123456789.");
    if (length == 0 || length >= sizeof number) return NOT_BYTES;
    memcpy(number, text, length);
    number[length] = '\0';
    const char *rest = text + length;
    if (*rest == ' ' && rest[1] != '\0') rest++;
    const unit *scale = find_unit(rest);
    if (!scale) return NOT_BYTES;

    int64_t whole;
    integer_kind kind = read_integer(number, &whole);
    if (kind == INTEGER) return i64_mul(whole, scale->bytes, bytes) ? BYTES : TOO_MANY;
    double value;
    if (!number_parse(number, &value)) return NOT_BYTES;
    value *= (double)scale->bytes;
    if (!(value < 0x1p63)) return TOO_MANY;
    *bytes = (int64_t)value;
    return BYTES;
}

bool parse_bytes(const char *text, const char *name, int64_t *out, brim_error *err) {
    if (failed(err)) return false;
    int64_t bytes;
    switch (read_bytes(text, &bytes)) {
    case BYTES:
        *out = bytes;
        break;
    case TOO_MANY:
        brim_fail(err, BRIM_ARGUMENT, "%s: %s is out of range, expected less than 2^63 bytes", name,
                  text);
        break;
    case NOT_BYTES:
        brim_fail(err, BRIM_ARGUMENT,
                  "%s: \"%s\" is not a size, expected a number and a unit such as 8G, 512M or "
                  "1.5GiB",
                  name, text);
        break;
    }
    return !failed(err);
}

const char *format_bytes(int64_t bytes, char text[UNITS_TEXT]) {
    static const char *const names[] = {"KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    if (bytes > -1024 && bytes < 1024) {
        snprintf(text, UNITS_TEXT, "%d B", (int)bytes);
        return text;
    }
    double value = (double)bytes / 1024;
    size_t i = 0;
    // 1023.95 and more would be printed as 1024.0.
    while (fabs(value) >= 1023.95 && i + 1 < sizeof names / sizeof *names) value /= 1024, i++;
    snprintf(text, UNITS_TEXT, "%.1f %s", value, names[i]);
    return text;
}

const char *format_seconds(double seconds, char text[UNITS_TEXT]) {
    if (!(seconds >= 0 && seconds < 1e12)) {
        snprintf(text, UNITS_TEXT, "-");
        return text;
    }
    if (seconds < 59.95) {
        snprintf(text, UNITS_TEXT, "%.1f s", seconds);
        return text;
    }
    int64_t whole = (int64_t)(seconds + 0.5);
    long long minutes = whole / 60, hours = minutes / 60, days = hours / 24;
    if (minutes < 60) {
        snprintf(text, UNITS_TEXT, "%lld min %02d s", minutes, (int)(whole % 60));
    } else if (hours < 24) {
        snprintf(text, UNITS_TEXT, "%lld h %02d min", hours, (int)(minutes % 60));
    } else {
        snprintf(text, UNITS_TEXT, "%lld d %02d h", days, (int)(hours % 24));
    }
    return text;
}

const char *format_count(double count, char text[UNITS_TEXT]) {
    static const char suffixes[] = {'K', 'M', 'G', 'T', 'P'};
    double value = count;
    int i = -1;
    while (fabs(value) >= 999.5 && i + 1 < (int)sizeof suffixes) value /= 1000, i++;
    if (i < 0)
        snprintf(text, UNITS_TEXT, "%.4g", value);
    else
        snprintf(text, UNITS_TEXT, "%.3g%c", value, suffixes[i]);
    return text;
}

const char *brim_bytes_text(int64_t bytes, char *text, size_t size) {
    char full[UNITS_TEXT];
    snprintf(text, size, "%s", format_bytes(bytes, full));
    return text;
}

bool brim_bytes_parse(const char *text, const char *name, int64_t *bytes, brim_error *err) {
    return parse_bytes(text, name, bytes, err);
}
