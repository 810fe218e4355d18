// The loops of host_update.c, compiled once for each instruction set. A list ends with a name of NULL.
#ifndef BRIM_BACKENDS_HOST_VARIANTS_H
#define BRIM_BACKENDS_HOST_VARIANTS_H

#include "backends/host_kernels.h"

extern const host_kernel host_kernels_plain[], host_kernels_avx2[], host_kernels_avx512[];

#endif
