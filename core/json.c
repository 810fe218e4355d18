#include "core/json.h"

#include <math.h>
#include "core/number.h"

// The length of the UTF-8 sequence that text begins with, 0 where there is none: no overlong forms,
// no surrogates, nothing beyond U+10FFFF (RFC 3629). A NUL is never part of a sequence, so nothing
// behind it is read.
static int utf8_length(const unsigned char *text) {
    unsigned first = text[0], low = 0x80, high = 0xbf;
    if (first < 0x80) return 1;
    int length = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
    if (first < 0xc2 || first > 0xf4) return 0;
    if (first == 0xe0) low = 0xa0;
    if (first == 0xed) high = 0x9f;
    if (first == 0xf0) low = 0x90;
    if (first == 0xf4) high = 0x8f;
    if (text[1] < low || text[1] > high) return 0;
    for (int i = 2; i < length; i++) {
        if ((text[i] & 0xc0) != 0x80) return 0;
    }
    return length;
}

void json_put_string(strbuf *out, const char *text) {
    strbuf_putc(out, '"');
    const unsigned char *c = (const unsigned char *)text;
    while (*c) {
        int length = utf8_length(c);
        if (length == 0) {
            strbuf_puts(out, "\xef\xbf\xbd");
            length = 1;
        } else if (*c == '"' || *c == '\\') {
            strbuf_printf(out, "\\%c", *c);
        } else if (*c < 0x20) {
            strbuf_printf(out, "\\u%04x", *c);
        } else {
            strbuf_append(out, c, (size_t)length);
        }
        c += length;
    }
    strbuf_putc(out, '"');
}

void json_put_f64(strbuf *out, double value) {
    char text[NUMBER_TEXT];
    number_print(value, text);
    strbuf_puts(out, isfinite(value) ? text : "null");
}

void json_put_f32(strbuf *out, float value) {
    char text[NUMBER_TEXT];
    number_print_f32(value, text);
    strbuf_puts(out, isfinite(value) ? text : "null");
}
