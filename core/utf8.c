#include "core/utf8.h"

#include <stdint.h>

int utf8_length(const char *text) {
    const unsigned char *c = (const unsigned char *)text;
    unsigned first = c[0], low = 0x80, high = 0xbf;
    if (first < 0x80) return 1;
    if (first < 0xc2 || first > 0xf4) return 0;
    int length = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
    if (first == 0xe0) low = 0xa0;
    if (first == 0xed) high = 0x9f;
    if (first == 0xf0) low = 0x90;
    if (first == 0xf4) high = 0x8f;
    // A NUL is never part of a sequence, so nothing behind the end is read.
    if (c[1] < low || c[1] > high) return 0;
    for (int i = 2; i < length; i++) {
        if ((c[i] & 0xc0) != 0x80) return 0;
    }
    return length;
}

size_t utf8_prefix(const char *text, size_t columns) {
    size_t bytes = 0;
    for (; text[bytes] && columns > 0; columns--) {
        int length = utf8_length(text + bytes);
        bytes += length ? (size_t)length : 1;
    }
    return bytes;
}

size_t utf8_columns(const char *text) {
    size_t columns = 0;
    for (; *text; columns++) text += utf8_prefix(text, 1);
    return columns;
}
