// Element types inside the library: names back to types, and conversion of whole arrays.
//
//   1. dtype_from_name("bf16", &dtype)
//   2. dtype_to_f32(dtype, stored, floats, count)      widen what a file or a device holds
//   3. dtype_from_f32(dtype, floats, stored, count)    round to nearest even, the inverse of 2
#ifndef BRIM_CORE_DTYPE_H
#define BRIM_CORE_DTYPE_H

#include <stdbool.h>
#include <brim/dtype.h>

// The name that safetensors files use, such as "BF16"; "unknown" outside the enum.
const char *dtype_safetensors_name(brim_dtype dtype);

// Finds the type of that name ("f32", "f16", ...). False, and *dtype untouched, where there is
// none.
bool dtype_from_name(const char *name, brim_dtype *dtype);

// True for f32, f16 and bf16.
bool dtype_is_float(brim_dtype dtype);

// Converts count elements. The arrays must not overlap and need no alignment. I32 is converted by
// value (beyond 2^24 it is rounded); to I32, values are truncated towards zero and clamped to the
// type's range, NaN gives 0.
void dtype_to_f32(brim_dtype dtype, const void *from, float *to, size_t count);
void dtype_from_f32(brim_dtype dtype, const float *from, void *to, size_t count);

#endif
