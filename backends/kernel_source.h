// The text of backends/kernels/*, embedded in the library at build time.
//
//   1. kernel_source_find("dialect.h"), kernel_source_find("matmul.k"): NULL if there is none
//   2. A backend compiles the API's dialect header, dialect.h and the kernel's own text, put
//      together in this order.
#ifndef BRIM_BACKENDS_KERNEL_SOURCE_H
#define BRIM_BACKENDS_KERNEL_SOURCE_H

const char *kernel_source_find(const char *name);

#endif
