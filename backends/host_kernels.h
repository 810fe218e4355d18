// Kernels that run on the CPU, beside the device.
//
// Their arguments are those of the device's kernels (kernels/optimizer.k, kernels/accumulate.k) in
// the same order, without `per`; what they write has the same bits, except that a NaN may be
// another one.
#ifndef BRIM_BACKENDS_HOST_KERNELS_H
#define BRIM_BACKENDS_HOST_KERNELS_H

#include <stdbool.h>
#include <stdint.h>

typedef union host_argument {
    void *buffer;
    int64_t i64;
    int32_t i32;
    float f32;
} host_argument;

// A function on the CPU that works on elements first .. first + count - 1 of its operands; pieces
// of one call run on several threads.
typedef struct host_kernel {
    const char *name;
    int32_t count_argument; // which argument is the number of elements (i64)
    void (*run)(const host_argument *argument, int64_t first, int64_t count);
} host_kernel;

// "adamw", "adamw_q8", "sgd", and with a compute copy "adamw_bf16", "adamw_f16" and so on; with a
// gradient in bf16 "adamw_q8_from_bf16", "adamw_q8_bf16_from_bf16" and so on.
// "accumulate": variable += x, and "assign": variable = x, both f32. In the widest vectors that
// this CPU has; NULL where there is none of that name.
const host_kernel *host_kernel_find(const char *name);

// The same loops for several instruction sets.
typedef enum host_variant { HOST_PLAIN, HOST_AVX2, HOST_AVX512, HOST_VARIANTS } host_variant;
const char *host_variant_name(host_variant variant);
// Has the library these kernels, and runs this CPU them?
bool host_variant_runs(host_variant variant);
// NULL where the variant does not run.
const host_kernel *host_kernel_of(host_variant variant, const char *name);

#endif
