#include "core/error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include "core/utf8.h"

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

// Bytes of the control character at c; 0 where there is none. Those of two bytes (U+0080 to U+009F)
// steer terminals, too.
static size_t control_length(const char *c) {
    const unsigned char *bytes = (const unsigned char *)c;
    if (bytes[0] < 0x20 || bytes[0] == 0x7f) return 1;
    return bytes[0] == 0xc2 && bytes[1] >= 0x80 && bytes[1] < 0xa0 ? 2 : 0;
}

// The text is promised to be one line, and it quotes names out of files that anyone may have
// written: line breaks, terminal escapes, and bytes that are not UTF-8 become '?'.
static void make_printable(char *text) {
    for (; *text; text += utf8_length(text)) {
        size_t control = control_length(text);
        if (control || !utf8_length(text)) memset(text, '?', control ? control : 1);
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
    if (length < (int)(sizeof err->text - used)) return;
    mark_cut(err->text, sizeof err->text);
    make_printable(err->text); // the cut may have gone through a character
}

int brim_error_report(const brim_error *err) {
    if (!failed(err)) return 0;
    fprintf(stderr, "error: %s\n", err->text);
    return 1;
}
