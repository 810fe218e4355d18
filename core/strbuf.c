#include "core/strbuf.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "core/alloc.h"
#include "core/size.h"

// Room for count more bytes and the NUL.
static bool reserve(strbuf *out, size_t count) {
    size_t wanted;
    if (!size_add(out->length, count, &wanted) || !size_add(wanted, 1, &wanted)) {
        brim_fail(out->err, BRIM_MEMORY, "%zu bytes of text are more than memory can address",
                  count);
        return false;
    }
    return brim_grow((void **)&out->text, &out->capacity, wanted, 1, out->err);
}

void strbuf_append(strbuf *out, const void *bytes, size_t count) {
    if (!reserve(out, count)) return;
    if (count) memcpy(out->text + out->length, bytes, count);
    out->length += count;
    out->text[out->length] = '\0';
}

void strbuf_puts(strbuf *out, const char *text) {
    strbuf_append(out, text, strlen(text));
}

void strbuf_putc(strbuf *out, char c) {
    strbuf_append(out, &c, 1);
}

void strbuf_vprintf(strbuf *out, const char *format, va_list arguments) {
    va_list again;
    va_copy(again, arguments);
    int length = vsnprintf(NULL, 0, format, arguments);
    if (length < 0) {
        brim_fail(out->err, BRIM_ARGUMENT, "text format \"%s\" cannot be printed", format);
    } else if (reserve(out, (size_t)length)) {
        vsnprintf(out->text + out->length, (size_t)length + 1, format, again);
        out->length += (size_t)length;
    }
    va_end(again);
}

void strbuf_printf(strbuf *out, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    strbuf_vprintf(out, format, arguments);
    va_end(arguments);
}

const char *strbuf_text(const strbuf *out) {
    return out->text ? out->text : "";
}

void strbuf_clear(strbuf *out) {
    out->length = 0;
    if (out->text) out->text[0] = '\0';
}

char *strbuf_take(strbuf *out) {
    char *text = NULL;
    if (!failed(out->err) && reserve(out, 0)) {
        text = out->text;
        text[out->length] = '\0';
        out->text = NULL;
    }
    strbuf_free(out);
    return text;
}

void strbuf_free(strbuf *out) {
    free(out->text);
    *out = (strbuf){.err = out->err};
}
