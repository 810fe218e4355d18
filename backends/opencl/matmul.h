// Matrix products by a library, inside a queue: on CPU devices a host library in a native kernel,
// on others CLBlast.
//
//   1. opencl_matmul_open(d, err) once the context is there: no library is no error, but one that
//      memory or threads do not suffice for is
//   2. opencl_matmul_serves, opencl_matmul_workspace while planning
//   3. opencl_product p; opencl_matmul_prepare(d, &record, &p, err) when a program is loaded
//   4. opencl_matmul_enqueue(d, &p, queue, waits, wait, event)
#ifndef BRIM_BACKENDS_OPENCL_MATMUL_H
#define BRIM_BACKENDS_OPENCL_MATMUL_H

#include "backends/native_matmul.h"
#include "backends/opencl/driver.h"
#include "backends/program.h"

typedef struct backend_device backend_device;

// CLBlast's C interface, as far as it is used (clblast_c.h). Enumerators are passed as int.
typedef struct clblast_library {
    int (*CLBlastSgemmWithTempBuffer)(int layout, int transpose_a, int transpose_b, size_t m,
                                      size_t n, size_t k, float alpha, cl_mem a, size_t offset_a,
                                      size_t row_a, cl_mem b, size_t offset_b, size_t row_b,
                                      float beta, cl_mem c, size_t offset_c, size_t row_c,
                                      cl_command_queue *queue, cl_event *event, cl_mem temp);
    int (*CLBlastSGemmTempBufferSize)(int layout, int transpose_a, int transpose_b, size_t m,
                                      size_t n, size_t k, size_t offset_a, size_t row_a,
                                      size_t offset_b, size_t row_b, size_t offset_c, size_t row_c,
                                      cl_command_queue *queue, size_t *bytes);
    int (*CLBlastClearCache)(void);
} clblast_library;

typedef struct opencl_matmul {
    native_matmul *native; // NULL: none
    dynlib clblast_file;
    clblast_library clblast; // pointers NULL: none
    bool compiled;           // CLBlast's kernels, in this context
    char name[128];          // what serves products
} opencl_matmul;

// A prepared product. The memory objects are the device's.
typedef struct opencl_product {
    const matmul_record *record;
    cl_mem a, b, c, workspace;
    size_t at_a, at_b, at_c, at_workspace; // bytes from the start of each
} opencl_product;

void opencl_matmul_open(backend_device *d, brim_error *err);
void opencl_matmul_close(backend_device *d);
bool opencl_matmul_serves(backend_device *d, const matmul_shape *shape);
brim_status opencl_matmul_workspace(backend_device *d, const matmul_shape *shape, int64_t *bytes,
                                    brim_error *err);

bool opencl_matmul_prepare(backend_device *d, const matmul_record *record, opencl_product *out,
                           brim_error *err);
bool opencl_matmul_enqueue(backend_device *d, const opencl_product *p, cl_command_queue queue,
                           cl_uint waits, const cl_event *wait, cl_event *event, brim_error *err);

#endif
