// A string that grows as it is written: dumps, generated kernels, error lists.
//
//   1. strbuf out = {.err = err};              err is kept, so that writing needs no check
//   2. strbuf_printf(&out, "%s = %d\n", name, value);
//   3. if (!failed(err)) use(strbuf_text(&out), out.length);
//   4. strbuf_free(&out);                      or strbuf_take, which hands the text over
#ifndef BRIM_CORE_STRBUF_H
#define BRIM_CORE_STRBUF_H

#include <stdarg.h>
#include <stddef.h>
#include "core/error.h"

typedef struct strbuf {
    char *text;    // NUL-terminated; NULL while empty: read it through strbuf_text
    size_t length; // without the NUL; the text itself may hold NULs
    size_t capacity;
    brim_error *err; // set by the first write that fails; later ones do nothing
} strbuf;

void strbuf_printf(strbuf *out, const char *format, ...) __attribute__((format(printf, 2, 3)));
void strbuf_vprintf(strbuf *out, const char *format, va_list arguments)
    __attribute__((format(printf, 2, 0)));
void strbuf_append(strbuf *out, const void *bytes, size_t count);
void strbuf_puts(strbuf *out, const char *text);
void strbuf_putc(strbuf *out, char c);

// The text so far, "" where there is none. Valid until the next write.
const char *strbuf_text(const strbuf *out);

// Forgets the text and keeps the memory.
void strbuf_clear(strbuf *out);

// The text, which the caller frees with free(); out is empty afterwards. NULL where a write had
// failed.
char *strbuf_take(strbuf *out);

void strbuf_free(strbuf *out);

#endif
