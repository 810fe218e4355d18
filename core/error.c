#include "core/error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const char *const status_names[] = {
#define X(id, name, meaning) [BRIM_##id] = name,
    BRIM_STATUS_LIST(X)
#undef X
};

enum { STATUS_COUNT = sizeof status_names / sizeof status_names[0] };

const char *brim_status_name(brim_status status) {
    if ((unsigned)status >= STATUS_COUNT) return "unknown";
    return status_names[status];
}

// The text is promised to be one line, and it quotes names out of files that anyone may have
// written: line breaks and terminal escapes become '?'.
static void make_printable(char *text) {
    for (unsigned char *c = (unsigned char *)text; *c; c++) {
        if (*c < 0x20 || *c == 0x7f) *c = '?';
    }
}

// Shows that a text did not fit.
static void mark_cut(char *text, size_t capacity) {
    memcpy(text + capacity - 4, "...", 4);
}

brim_status brim_fail(brim_error *err, brim_status status, const char *format, ...) {
    if (failed(err)) return err->status;
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(err->text, sizeof err->text, format, arguments);
    va_end(arguments);
    if (length < 0) err->text[0] = '\0';
    if (length >= (int)sizeof err->text) mark_cut(err->text, sizeof err->text);
    make_printable(err->text);
    err->status = status;
    return status;
}

void brim_error_prefix(brim_error *err, const char *format, ...) {
    if (!failed(err)) return;
    char prefix[sizeof err->text / 2];
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(prefix, sizeof prefix, format, arguments);
    va_end(arguments);
    if (length < 0) return;
    if (length >= (int)sizeof prefix) mark_cut(prefix, sizeof prefix);
    make_printable(prefix);

    char text[sizeof err->text];
    memcpy(text, err->text, sizeof text);
    size_t used = strlen(prefix);
    memcpy(err->text, prefix, used);
    length = snprintf(err->text + used, sizeof err->text - used, ": %s", text);
    if (length >= (int)(sizeof err->text - used)) mark_cut(err->text, sizeof err->text);
}

int brim_error_report(const brim_error *err) {
    if (!failed(err)) return 0;
    fprintf(stderr, "error: %s\n", err->text);
    return 1;
}
