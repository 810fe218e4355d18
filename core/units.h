// Numbers that people write and read: sizes, durations, counts, and options with a range.
//
// A parser takes the whole text or nothing: no blanks, no rest. name is what the error text calls
// the value, such as
// "--layers". On failure *out is untouched, err has status BRIM_ARGUMENT, and false is returned.
#ifndef BRIM_CORE_UNITS_H
#define BRIM_CORE_UNITS_H

#include <stdbool.h>
#include <stdint.h>
#include "core/error.h"

enum { UNITS_TEXT = 32 };

// An integer in [min, max].
bool parse_i64(const char *text, const char *name, int64_t min, int64_t max, int64_t *out,
               brim_error *err);

// A decimal number in [min, max].
bool parse_f64(const char *text, const char *name, double min, double max, double *out,
               brim_error *err);

// A number of bytes in [0, 2^63): "4096", "8G", "512M", "1.5GiB", "10 MB". K M G T and KiB MiB GiB
// TiB are powers of 1024; kB MB GB TB are powers of 1000. Case does not matter, and one blank may
// stand before the unit. A fraction of a byte is dropped.
bool parse_bytes(const char *text, const char *name, int64_t *out, brim_error *err);

// "512 B", "3.2 GiB". Returns text.
const char *format_bytes(int64_t bytes, char text[UNITS_TEXT]);

// "12.3 s", "3 min 05 s", "2 h 07 min", "3 d 04 h"; "-" for what is not finite or negative. Returns
// text.
const char *format_seconds(double seconds, char text[UNITS_TEXT]);

// "950", "12.3K", "1.3M", "8.03G": three digits or so of a number of parameters or tokens. Returns
// text.
const char *format_count(double count, char text[UNITS_TEXT]);

#endif
