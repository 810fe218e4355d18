// Kernels that run on the CPU, beside the device.
#ifndef BRIM_BACKENDS_HOST_KERNELS_H
#define BRIM_BACKENDS_HOST_KERNELS_H

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

const host_kernel *host_kernel_find(const char *name);

#endif
