// How the library itself sets errors. See <brim/error.h> for the caller's side.
#ifndef BRIM_CORE_ERROR_H
#define BRIM_CORE_ERROR_H

#include <stdbool.h>
#include <brim/error.h>

// True if an earlier call failed; every fallible function starts with it.
static inline bool failed(const brim_error *err) {
    return err->status != BRIM_OK;
}

// Sets status and text unless an error is already set; returns err's status.
brim_status brim_fail(brim_error *err, brim_status status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

// Puts "CONTEXT: " before the text of the error that is set; for callers that know the file, op or
// tensor.
void brim_error_prefix(brim_error *err, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

#endif
