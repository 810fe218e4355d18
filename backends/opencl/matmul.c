#include "backends/opencl/matmul.h"

#include <stdio.h>
#include <string.h>
#include "backends/opencl/device.h"

static const dynlib_symbol clblast_symbols[] = {
    DYNLIB_REQUIRED(clblast_library, CLBlastSgemmWithTempBuffer),
    DYNLIB_REQUIRED(clblast_library, CLBlastSGemmTempBufferSize),
    DYNLIB_REQUIRED(clblast_library, CLBlastClearCache),
};
static const char *const clblast_names[] = {"libclblast.so.1", "libclblast.so", NULL};
static const dynlib_table clblast_table = {"CLBlast", clblast_names, clblast_symbols,
                                           sizeof clblast_symbols / sizeof *clblast_symbols};
enum { CLBLAST_ROW_MAJOR = 101, CLBLAST_NO_TRANSPOSE = 111, CLBLAST_TRANSPOSE = 112 };

// ---- opening ------------------------------------------------------------------------------------

void opencl_matmul_open(backend_device *d, brim_error *err) {
    opencl_matmul *m = &d->matmul;
    brim_error no_library = {0}; // a device without one has kernels/matmul.k
    const device_settings *s = &d->settings;
    if (s->own_products) return;
    if (d->host_is_device && !s->clblast) {
        if (!d->native_kernels) return;
        m->native = native_matmul_open(NATIVE_BEST, d->traits.compute_units, &no_library);
        if (m->native) snprintf(m->name, sizeof m->name, "%s", native_matmul_name(m->native));
    } else if (dynlib_open(&m->clblast_file, &clblast_table, &m->clblast, &no_library)) {
        snprintf(m->name, sizeof m->name, "CLBlast (%s), f32 only", m->clblast_file.name);
    }
    // One that is there and cannot be used now would be missed without a word: other products have
    // other bits.
    if (no_library.status == BRIM_MEMORY) *err = no_library;
}

void opencl_matmul_close(backend_device *d) {
    native_matmul_close(d->matmul.native);
    // It keeps what it compiled, and with it our context, until the process ends otherwise: too
    // late for some drivers.
    if (d->matmul.compiled) d->matmul.clblast.CLBlastClearCache();
    dynlib_close(&d->matmul.clblast_file);
    d->matmul = (opencl_matmul){0};
}

// ---- planning -----------------------------------------------------------------------------------

bool opencl_matmul_serves(backend_device *d, const matmul_shape *s) {
    if (d->matmul.native) return native_matmul_serves(d->matmul.native, s);
    if (!d->matmul.clblast.CLBlastSgemmWithTempBuffer) return false;
    // One call for each matrix of a batch: many small ones are better off in a kernel of their own.
    return s->in == BRIM_F32 && s->out == BRIM_F32 && s->m > 0 && s->n > 0 && s->k > 0 &&
           s->batch <= 64;
}

static int transpose(bool yes) {
    return yes ? CLBLAST_TRANSPOSE : CLBLAST_NO_TRANSPOSE;
}

brim_status opencl_matmul_workspace(backend_device *d, const matmul_shape *s, int64_t *bytes,
                                    brim_error *err) {
    *bytes = 0;
    if (failed(err) || !opencl_matmul_serves(d, s)) return err->status;
    if (d->matmul.native) {
        *bytes = native_matmul_workspace(d->matmul.native, s);
        return BRIM_OK;
    }
    // What CLBlast copies depends on whether offsets are 0: offsets of one row are the worst case.
    size_t size = 0;
    int status = d->matmul.clblast.CLBlastSGemmTempBufferSize(
        CLBLAST_ROW_MAJOR, transpose(s->transpose_a), transpose(s->transpose_b), (size_t)s->m,
        (size_t)s->n, (size_t)s->k, 1, (size_t)s->row_a, 1, (size_t)s->row_b, 1, (size_t)s->row_c,
        &d->queue[QUEUE_COMPUTE], &size);
    if (status != CL_SUCCESS)
        return brim_fail(err, BRIM_DEVICE, "CLBlastSGemmTempBufferSize failed with %d", status);
    *bytes = (int64_t)size;
    return BRIM_OK;
}

// ---- preparing ----------------------------------------------------------------------------------

// Bytes from the first to the last element of an operand over the whole batch.
static int64_t operand_bytes(int64_t rows, int64_t columns, int64_t row_stride, int64_t batch,
                             int64_t batch_stride, brim_dtype dtype) {
    if (rows == 0 || columns == 0 || batch == 0) return 0;
    int64_t last = (batch - 1) * batch_stride + (rows - 1) * row_stride + columns;
    return last * (int64_t)brim_dtype_bytes(dtype);
}

// Where an operand is. CLBlast is given parts of chunks, for no kernel may write to a buffer and a
// part of it, and it counts what an operand starts after in 32 bits.
static bool place(backend_device *d, int64_t offset, int64_t bytes, cl_mem *out, size_t *at,
                  brim_error *err) {
    *out = d->matmul.native ? opencl_chunk(d, offset, bytes, at, err)
           : bytes > 0      ? opencl_part(d, offset, bytes, at, err)
                            : NULL;
    return !failed(err);
}

// CLBlast compiles its kernels in the first call on a context: a product of one element, so that
// step 1 need not wait.
static bool compile_clblast(backend_device *d, brim_error *err) {
    if (d->matmul.compiled) return true;
    cl_int status;
    float one = 1;
    cl_mem x = d->cl.clCreateBuffer(d->context, CL_MEM_READ_WRITE | CL_MEM_COPY_HOST_PTR,
                                    sizeof one, &one, &status);
    if (!opencl_check(status, "clCreateBuffer", err)) return false;
    cl_mem y = d->cl.clCreateBuffer(d->context, CL_MEM_READ_WRITE, sizeof one, NULL, &status);
    if (opencl_check(status, "clCreateBuffer", err)) {
        status = d->matmul.clblast.CLBlastSgemmWithTempBuffer(
            CLBLAST_ROW_MAJOR, CLBLAST_NO_TRANSPOSE, CLBLAST_NO_TRANSPOSE, 1, 1, 1, 1.0f, x, 0, 1,
            x, 0, 1, 0.0f, y, 0, 1, &d->queue[QUEUE_COMPUTE], NULL, NULL);
        if (status != CL_SUCCESS)
            brim_fail(err, BRIM_DEVICE, "CLBlast cannot compile its kernels: %d", status);
        d->cl.clFinish(d->queue[QUEUE_COMPUTE]);
        d->cl.clReleaseMemObject(y);
    }
    d->cl.clReleaseMemObject(x);
    d->matmul.compiled = !failed(err);
    return d->matmul.compiled;
}

bool opencl_matmul_prepare(backend_device *d, const matmul_record *r, opencl_product *out,
                           brim_error *err) {
    const matmul_shape *s = &r->shape;
    if (!opencl_matmul_serves(d, s)) {
        brim_fail(err, BRIM_UNSUPPORTED, "no library serves this matrix product on %s",
                  d->traits.name);
        return false;
    }
    bool clblast = !d->matmul.native;
    if (clblast && !compile_clblast(d, err)) return false;
    *out = (opencl_product){.record = r};
    int64_t bytes_a = operand_bytes(s->transpose_a ? s->k : s->m, s->transpose_a ? s->m : s->k,
                                    s->row_a, s->batch, s->batch_a, s->in);
    int64_t bytes_b = operand_bytes(s->transpose_b ? s->n : s->k, s->transpose_b ? s->k : s->n,
                                    s->row_b, s->batch, s->batch_b, s->in);
    int64_t bytes_c = operand_bytes(s->m, s->n, s->row_c, s->batch, s->batch_c, s->out);
    int64_t wanted = 0;
    if (opencl_matmul_workspace(d, s, &wanted, err) != BRIM_OK) return false;
    if (wanted > r->workspace_bytes) {
        brim_fail(err, BRIM_ARGUMENT, "a matrix product needs %lld bytes of workspace and has %lld",
                  (long long)wanted, (long long)r->workspace_bytes);
        return false;
    }
    if (clblast && r->workspace % d->traits.alignment != 0) {
        brim_fail(err, BRIM_ARGUMENT, "a matrix product's workspace at %lld is not aligned to %lld",
                  (long long)r->workspace, (long long)d->traits.alignment);
        return false;
    }
    return place(d, r->a, bytes_a, &out->a, &out->at_a, err) &&
           place(d, r->b, bytes_b, &out->b, &out->at_b, err) &&
           place(d, r->c, bytes_c, &out->c, &out->at_c, err) &&
           place(d, wanted ? r->workspace : 0, wanted, &out->workspace, &out->at_workspace, err);
}

// ---- running ------------------------------------------------------------------------------------

// What the native kernel is given: a copy, in which the driver writes the objects' addresses. Each
// object is named once, since PoCL 3.1 fills in only the first address of one that is named twice.
typedef struct native_call {
    native_matmul *library;
    const matmul_shape *shape;
    void *base[4]; // of distinct objects
    int object[4]; // of a, b, c, workspace: which base
    size_t at[4];
} native_call;

static void CL_CALLBACK run_native(void *arguments) {
    const native_call *call = arguments;
    char *p[4];
    for (int i = 0; i < 4; i++) p[i] = (char *)call->base[call->object[i]] + call->at[i];
    native_matmul_run(call->library, call->shape, p[0], p[1], p[2], p[3]);
}

static bool enqueue_native(backend_device *d, const opencl_product *p, cl_command_queue queue,
                           cl_uint waits, const cl_event *wait, cl_event *event, brim_error *err) {
    native_call call = {.library = d->matmul.native,
                        .shape = &p->record->shape,
                        .at = {p->at_a, p->at_b, p->at_c, p->at_workspace}};
    const cl_mem operand[4] = {p->a, p->b, p->c, p->workspace};
    cl_mem object[4];
    const void *location[4];
    cl_uint objects = 0;
    for (int i = 0; i < 4; i++) {
        cl_uint same = 0;
        while (same < objects && object[same] != operand[i]) same++;
        call.object[i] = (int)same;
        if (same < objects) continue;
        object[objects] = operand[i];
        location[objects] = &call.base[objects];
        objects++;
    }
    cl_int status = d->cl.clEnqueueNativeKernel(queue, run_native, &call, sizeof call, objects,
                                                object, location, waits, wait, event);
    return opencl_check(status, "clEnqueueNativeKernel", err);
}

static bool enqueue_clblast(backend_device *d, const opencl_product *p, cl_command_queue queue,
                            cl_uint waits, const cl_event *wait, cl_event *event, brim_error *err) {
    // CLBlast takes no list of events; in an in-order queue a marker that waits holds up what
    // follows.
    if (waits && !opencl_check(d->cl.clEnqueueMarkerWithWaitList(queue, waits, wait, NULL),
                               "clEnqueueMarkerWithWaitList", err))
        return false;
    const matmul_shape *s = &p->record->shape;
    for (int64_t i = 0; i < s->batch; i++) {
        int status = d->matmul.clblast.CLBlastSgemmWithTempBuffer(
            CLBLAST_ROW_MAJOR, transpose(s->transpose_a), transpose(s->transpose_b), (size_t)s->m,
            (size_t)s->n, (size_t)s->k, 1.0f, p->a, p->at_a / 4 + (size_t)(i * s->batch_a),
            (size_t)s->row_a, p->b, p->at_b / 4 + (size_t)(i * s->batch_b), (size_t)s->row_b, 0.0f,
            p->c, p->at_c / 4 + (size_t)(i * s->batch_c), (size_t)s->row_c, &queue,
            i + 1 == s->batch ? event : NULL, p->workspace);
        if (status == CL_SUCCESS) continue;
        brim_fail(err, BRIM_DEVICE, "CLBlastSgemmWithTempBuffer failed with %d", status);
        return false;
    }
    return true;
}

bool opencl_matmul_enqueue(backend_device *d, const opencl_product *p, cl_command_queue queue,
                           cl_uint waits, const cl_event *wait, cl_event *event, brim_error *err) {
    return d->matmul.native ? enqueue_native(d, p, queue, waits, wait, event, err)
                            : enqueue_clblast(d, p, queue, waits, wait, event, err);
}
