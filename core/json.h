// JSON written piece by piece into a strbuf. Reading is cJSON's.
#ifndef BRIM_CORE_JSON_H
#define BRIM_CORE_JSON_H

#include "core/strbuf.h"

// "TEXT" with its quotes, escaped as JSON demands. Bytes that are not UTF-8 become U+FFFD each.
void json_put_string(strbuf *out, const char *text);

// A number that reads back to the same bits; null for NaN and infinities, which JSON lacks.
void json_put_f64(strbuf *out, double value);
void json_put_f32(strbuf *out, float value);

#endif
