#include "core/json.h"

#include <math.h>
#include "core/number.h"
#include "core/utf8.h"

void json_put_string(strbuf *out, const char *text) {
    strbuf_putc(out, '"');
    for (const char *c = text; *c;) {
        int length = utf8_length(c);
        if (length == 0) {
            strbuf_puts(out, "\xef\xbf\xbd");
            length = 1;
        } else if (*c == '"' || *c == '\\') {
            strbuf_printf(out, "\\%c", *c);
        } else if ((unsigned char)*c < 0x20) {
            strbuf_printf(out, "\\u%04x", (unsigned)*c);
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
