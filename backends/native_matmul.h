// Matrix products on the host by a library that is there: oneDNN, else a CBLAS. OpenCL CPU devices
// call it inside their queue.
//
//   1. native_matmul *m = native_matmul_open(NATIVE_BEST, threads, err);     the error says what
//   was
//      tried
//   2. if (native_matmul_serves(m, &shape)) bytes = native_matmul_workspace(m, &shape);
//   3. native_matmul_run(m, &shape, a, b, c, workspace);
//   4. native_matmul_close(m);
//
// A product is cut into slices that follow from its shape and the number of threads; each slice is
// one call that runs on one thread. So a shape gives the same bits on the same machine, whatever
// else runs, and no library's threads spin on the cores that the next kernel needs. Operands of 16
// bits are widened to f32 in the workspace, and a 16-bit result is rounded once, to nearest even.
#ifndef BRIM_BACKENDS_NATIVE_MATMUL_H
#define BRIM_BACKENDS_NATIVE_MATMUL_H

#include "backends/program.h"

typedef struct native_matmul native_matmul;

typedef enum native_library { NATIVE_BEST, NATIVE_ONEDNN, NATIVE_CBLAS } native_library;

native_matmul *native_matmul_open(native_library library, int threads, brim_error *err);
void native_matmul_close(native_matmul *m);

// Library and version, such as "oneDNN 2.6.3, 2 threads".
const char *native_matmul_name(const native_matmul *m);

bool native_matmul_serves(const native_matmul *m, const matmul_shape *shape);
int64_t native_matmul_workspace(const native_matmul *m, const matmul_shape *shape);

// Pointers are to the first elements; the workspace is aligned for f32. Calls from several threads
// take turns.
void native_matmul_run(native_matmul *m, const matmul_shape *shape, const void *a, const void *b,
                       void *c, void *workspace);

#endif
