// What every fallible function of the library starts with. See <brim/error.h>.
#ifndef BRIM_CORE_ERROR_H
#define BRIM_CORE_ERROR_H

#include <stdbool.h>
#include <brim/error.h>

// True if an earlier call failed; every fallible function starts with it.
static inline bool failed(const brim_error *err) {
    return err->status != BRIM_OK;
}

#endif
