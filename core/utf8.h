// UTF-8, as far as texts are measured, cut and escaped.
#ifndef BRIM_CORE_UTF8_H
#define BRIM_CORE_UTF8_H

#include <stddef.h>

// Bytes of the sequence that the NUL-terminated text begins with, 1 .. 4; 0 where it is not UTF-8
// (RFC 3629: no overlong forms, no surrogates, nothing beyond U+10FFFF).
int utf8_length(const char *text);

// Bytes of the longest beginning of text that has at most columns characters. A byte that is not
// UTF-8 counts as one.
size_t utf8_prefix(const char *text, size_t columns);

// Characters of text.
size_t utf8_columns(const char *text);

#endif
