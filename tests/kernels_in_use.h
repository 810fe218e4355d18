// The kernels that a device would be given, gathered from the programs that make them: lowering
// needs the device's traits only, no device. For what compiles kernels without running them.
#ifndef BRIM_TESTS_KERNELS_IN_USE_H
#define BRIM_TESTS_KERNELS_IN_USE_H

#include "backends/backend.h"

// What an NVIDIA GPU tells of itself, as far as lowering asks.
extern const device_traits pretended_gpu;

// A program without records: each kernel once in every specialisation that training asks for (each
// precision, AdamW and SGD), and the ops at the sizes that benchmarks use. `odd_sizes`: the op
// cases of the tests, too. Matrix products and attention are our own kernels, no library's. NULL on
// error; freed with program_free.
program *kernels_in_use(const device_traits *traits, bool odd_sizes, brim_error *err);

#endif
