// What a compiled kernel file and the driver of cuda_on_cpu know of each other. C and C++: kernels
// are compiled with it (device_side.h), and the driver loads them (module.c, block.c).
#ifndef BRIM_TESTS_CUDA_ON_CPU_IMAGE_H
#define BRIM_TESTS_CUDA_ON_CPU_IMAGE_H

#include <stdint.h>

enum { IMAGE_VERSION = 5, WARP = 32, MOST_THREADS = 1024 }; // of a block

typedef struct image_index {
    unsigned x, y, z;
} image_index;

// The thread that runs. The driver changes it at each switch between threads.
typedef struct image_thread {
    image_index index, block, size, grid; // threadIdx, blockIdx, blockDim, gridDim
    uintptr_t stack, stack_bytes;         // its own: accesses there need no further look
} image_thread;

// Bytes of which an access is known to be right, so that most accesses cost a comparison.
typedef struct image_window {
    uintptr_t begin, bytes;
} image_window;

// What the driver gives to a loaded file.
typedef struct image_host {
    image_thread thread;
    image_window window[2]; // for reads, for writes
    image_window own;       // the file's constants and shared arrays
    // Returns where the access is right; else the kernel ends here.
    void (*access)(uintptr_t at, uintptr_t bytes, int writes);
    void (*misuse)(const char *what, uintptr_t value);
    void (*barrier)(const char *file, int line);
    // Waits for the lanes of mask, which bring values of their own; returns all 32.
    const uint64_t *(*exchange)(unsigned mask, uint64_t value, const char *file, int line);
    uint64_t lane[2][MOST_THREADS]; // what was brought, in turns
} image_host;

typedef struct image_kernel {
    const char *name;
    void (*invoke)(void *const *parameter);
    const unsigned *bytes; // of each parameter
    int parameters;
    int max_threads; // of a block, by __launch_bounds__; 0: not said
    int shared;      // bytes, as NVIDIA's assembler says; 0: it was not asked
} image_kernel;

// Exported under the name "image".
typedef struct image_table {
    int version;
    const image_host **host; // set by the driver
    const image_kernel *kernel;
    int kernels;
    char *shared, *shared_end; // all __shared__ arrays
} image_table;

#endif
