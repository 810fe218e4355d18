// core/dtype.h's conversions of f16 and bf16, at the speed of memory where the processor has the
// instructions; the same bits as core/half.h everywhere.
#ifndef BRIM_BACKENDS_NATIVE_CONVERT_H
#define BRIM_BACKENDS_NATIVE_CONVERT_H

#include <stddef.h>
#include <brim/dtype.h>

void native_widen(brim_dtype dtype, const void *from, float *to, size_t count);
void native_narrow(brim_dtype dtype, const float *from, void *to, size_t count);

#endif
