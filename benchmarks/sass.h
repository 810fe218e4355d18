// Loops and instructions of compiled kernels, read from the listing that `nvdisasm -c` prints.
//
//   1. sass_listing listing;  sass_parse(text, &memory, &listing, err);
//   2. const sass_kernel *k = sass_find(&listing, "layer_norm");
//   3. for (int i = 0; i < k->loops; i++) use(&k->loop[i].count);
#ifndef BRIM_BENCHMARKS_SASS_H
#define BRIM_BENCHMARKS_SASS_H

#include "core/arena.h"

typedef enum sass_space { SASS_GLOBAL, SASS_SHARED, SASS_LOCAL, SASS_SPACES } sass_space;
enum { SASS_WIDTHS = 5 }; // 8, 16, 32, 64 and 128 bits

// Numbers of instructions. `float_other` are comparisons, conversions and special functions; an
// asynchronous copy is a load from global and a store to shared memory.
#define SASS_CLASSES(X) X(fma) X(float_other) X(matrix) X(integer) X(atomic) X(shuffle) X(barrier)

typedef struct sass_count {
    int instructions;
#define X(name) int name;
    SASS_CLASSES(X)
#undef X
    int loads[SASS_SPACES][SASS_WIDTHS], stores[SASS_SPACES][SASS_WIDTHS];
} sass_count;

typedef struct sass_loop {
    int first;        // its first instruction's number in the kernel
    int depth;        // 1: in no other loop
    bool innermost;   // none is in it
    sass_count count; // loops in it included
} sass_loop;

typedef struct sass_kernel {
    const char *name;
    sass_count whole;
    sass_loop *loop;
    int loops;
} sass_kernel;

typedef struct sass_listing {
    sass_kernel *kernel;
    int kernels;
} sass_listing;

// What it returns lives in `memory`. An error where the text has no kernel.
brim_status sass_parse(const char *text, arena *memory, sass_listing *out, brim_error *err);
const sass_kernel *sass_find(const sass_listing *listing, const char *name);

// "global", "shared", "local"; 8 ... 128.
const char *sass_space_name(sass_space space);
int sass_width_bits(int width);

#endif
