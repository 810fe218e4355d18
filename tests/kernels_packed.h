// Kernels put together for compilers, which take longer to start than to read a short kernel.
//
//   1. pack_kernels(all, &packed, err)        all: of kernels_in_use
//   2. packed.item[i]: a text with all of its entries; defines and file as those of its kernels
//   3. packed_kernels_free(&packed)           before `all`
#ifndef BRIM_TESTS_KERNELS_PACKED_H
#define BRIM_TESTS_KERNELS_PACKED_H

#include "backends/program.h"
#include "core/arena.h"

typedef struct packed_kernels {
    kernel_spec *item;
    int items;
    arena memory;
} packed_kernels;

// Entries of one text come out of one compilation, and so do up to 16 generated kernels with the
// same defines; the latter are renamed to NAME__NUMBER.
brim_status pack_kernels(const program *all, packed_kernels *out, brim_error *err);
void packed_kernels_free(packed_kernels *packed);

#endif
