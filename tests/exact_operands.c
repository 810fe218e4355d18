#include "tests/exact_operands.h"

#include <pthread.h>
#include <stdlib.h>
#include "backends/opencl/device.h"
#include "core/alloc.h"

// Vectors of four floats start at multiples of 16 bytes, in a memory object of their own, too.
enum { ALIGNMENT = 16, MOST_PIECES = 64 };

// Bytes of the device space that become a memory object for one launch.
typedef struct piece {
    int64_t start, end;
    bool written;
    cl_mem object;
} piece;

// What stands before the backend, and before the driver's functions of one device.
static struct {
    const backend *real;
    backend front;
    opencl_driver driver;
    backend_device *device;
    const program *p;
    cl_kernel *kernel;   // by record of p
    int32_t next_launch; // while p is loaded: the record whose kernel is created next
    exact_operands_options options;
} state;

// ---- pieces -------------------------------------------------------------------------------------

static int by_start(const void *a, const void *b) {
    int64_t x = ((const piece *)a)->start, y = ((const piece *)b)->start;
    return (x > y) - (x < y);
}

static int find_pieces(const program_record *r, piece *out) {
    int count = 0, merged = 0;
    if (r->accesses > MOST_PIECES) return -1;
    for (int i = 0; i < r->accesses; i++) {
        const byte_range *range = &r->access[i].range;
        out[count++] =
            (piece){range->offset, range->offset + range->bytes, r->access[i].writes, NULL};
    }
    qsort(out, (size_t)count, sizeof *out, by_start);
    for (int i = 0; i < count; i++) {
        piece *last = merged ? &out[merged - 1] : NULL;
        if (!last || out[i].start >= last->end) {
            out[merged++] = out[i];
            continue;
        }
        if (out[i].end > last->end) last->end = out[i].end;
        last->written |= out[i].written;
    }
    return merged;
}

static const piece *piece_at(const piece *pieces, int count, int64_t offset) {
    for (int i = 0; i < count; i++)
        if (offset >= pieces[i].start && offset < pieces[i].end) return &pieces[i];
    return NULL;
}

static cl_long offset_in(const piece *x, int64_t offset) {
    return offset - x->start + x->start % ALIGNMENT;
}

// What the device space holds there, or is to hold. By way of the host: oclgrind 21.10 loses sight
// of what is initialised in a copy from one memory object to another.
static cl_int exchange(cl_command_queue queue, const piece *x, char *data, bool in) {
    brim_error err = {0};
    size_t within, bytes = (size_t)(x->end - x->start);
    cl_mem chunk = opencl_chunk(state.device, x->start, x->end - x->start, &within, &err);
    if (!chunk) return CL_INVALID_VALUE;
    const opencl_driver *cl = &state.driver;
    return in ? cl->clEnqueueReadBuffer(queue, chunk, CL_TRUE, within, bytes, data, 0, NULL, NULL)
              : cl->clEnqueueWriteBuffer(queue, chunk, CL_TRUE, within, bytes, data, 0, NULL, NULL);
}

static cl_int make_object(cl_command_queue queue, piece *x) {
    size_t before = (size_t)(x->start % ALIGNMENT), bytes = before + (size_t)(x->end - x->start);
    char *data = calloc(bytes, 1);
    cl_int status = data ? exchange(queue, x, data + before, true) : CL_OUT_OF_HOST_MEMORY;
    cl_mem_flags access = x->written ? CL_MEM_READ_WRITE : CL_MEM_READ_ONLY;
    if (status == CL_SUCCESS)
        x->object = state.driver.clCreateBuffer(
            state.device->context, access | CL_MEM_COPY_HOST_PTR, bytes, data, &status);
    free(data);
    return status;
}

static cl_int put_back(cl_command_queue queue, const piece *x) {
    size_t bytes = (size_t)(x->end - x->start);
    char *data = malloc(bytes);
    cl_int status = data ? state.driver.clEnqueueReadBuffer(queue, x->object, CL_TRUE,
                                                            (size_t)(x->start % ALIGNMENT), bytes,
                                                            data, 0, NULL, NULL)
                         : CL_OUT_OF_HOST_MEMORY;
    if (status == CL_SUCCESS) status = exchange(queue, x, data, false);
    free(data);
    return status;
}

// An argument of the record is two of the kernel where it is a buffer.
static cl_int set_arguments(const launch_record *launch, cl_kernel kernel, const piece *pieces,
                            int count) {
    cl_int status = CL_SUCCESS;
    cl_uint index = 0;
    for (int i = 0; i < launch->arguments && status == CL_SUCCESS; i++) {
        const kernel_argument *a = &launch->argument[i];
        const piece *x = a->kind == ARGUMENT_BUFFER ? piece_at(pieces, count, a->as.offset) : NULL;
        if (x) {
            cl_long offset = offset_in(x, a->as.offset);
            status = state.driver.clSetKernelArg(kernel, index, sizeof x->object, &x->object);
            if (status == CL_SUCCESS)
                status = state.driver.clSetKernelArg(kernel, index + 1, sizeof offset, &offset);
        }
        index += a->kind == ARGUMENT_BUFFER ? 2 : 1;
    }
    return status;
}

// ---- before the driver --------------------------------------------------------------------------

// The standard lets threads call it at the same time; oclgrind 21.10 breaks down then.
static cl_int CL_API_CALL build(cl_program module, cl_uint devices, const cl_device_id *device,
                                const char *options, void(CL_CALLBACK *done)(cl_program, void *),
                                void *user) {
    static pthread_mutex_t one_at_a_time = PTHREAD_MUTEX_INITIALIZER;
    pthread_mutex_lock(&one_at_a_time);
    cl_int status = state.driver.clBuildProgram(module, devices, device, options, done, user);
    pthread_mutex_unlock(&one_at_a_time);
    return status;
}

static cl_kernel CL_API_CALL create_kernel(cl_program module, const char *name, cl_int *status) {
    cl_kernel kernel = state.driver.clCreateKernel(module, name, status);
    while (state.next_launch < state.p->records &&
           state.p->record[state.next_launch].kind != RECORD_LAUNCH)
        state.next_launch++;
    if (state.next_launch < state.p->records) state.kernel[state.next_launch++] = kernel;
    return kernel;
}

static cl_int CL_API_CALL launch(cl_command_queue queue, cl_kernel kernel, cl_uint dims,
                                 const size_t *offset, const size_t *global, const size_t *local,
                                 cl_uint waits, const cl_event *wait, cl_event *event) {
    const opencl_driver *cl = &state.driver;
    int32_t i = 0;
    while (i < state.p->records && state.kernel[i] != kernel) i++;
    if (i == state.p->records) return CL_INVALID_KERNEL;
    const program_record *r = &state.p->record[i];
    if (state.options.note)
        state.options.note(&state.p->kernel[r->as.launch.kernel], state.options.user);
    piece pieces[MOST_PIECES];
    int count = find_pieces(r, pieces);
    if (count < 0) return CL_OUT_OF_RESOURCES;
    cl_int status = CL_SUCCESS;
    for (int k = 0; k < count && status == CL_SUCCESS; k++) status = make_object(queue, &pieces[k]);
    if (status == CL_SUCCESS) status = set_arguments(&r->as.launch, kernel, pieces, count);
    if (status == CL_SUCCESS)
        status = cl->clEnqueueNDRangeKernel(queue, kernel, dims, offset, global, local, waits, wait,
                                            event);
    for (int k = 0; k < count && status == CL_SUCCESS; k++)
        if (pieces[k].written) status = put_back(queue, &pieces[k]);
    for (int k = 0; k < count; k++)
        if (pieces[k].object) cl->clReleaseMemObject(pieces[k].object);
    return status;
}

// ---- before the backend -------------------------------------------------------------------------

static brim_status load(backend_device *device, const program *p, loaded_program **out,
                        brim_error *err) {
    free(state.kernel);
    state.kernel = brim_calloc_array((size_t)p->records, sizeof(cl_kernel), err);
    state.p = p;
    state.next_launch = 0;
    return state.real->load(device, p, out, err);
}

// No library's kernels are watched: products are our own kernel's.
static bool matmul_native(backend_device *device, const matmul_shape *product) {
    (void)device, (void)product;
    return false;
}

static const device_traits *traits(const backend_device *device) {
    return state.options.traits ? state.options.traits : state.real->traits(device);
}

void exact_operands_begin(harness *h, const exact_operands_options *options) {
    state.real = h->backend;
    state.front = *h->backend;
    state.front.load = load;
    state.front.matmul_native = matmul_native;
    state.front.traits = traits;
    state.device = h->device;
    state.driver = h->device->cl;
    state.options = *options;
    h->device->cl.clBuildProgram = build;
    h->device->cl.clCreateKernel = create_kernel;
    h->device->cl.clEnqueueNDRangeKernel = launch;
    h->backend = &state.front;
}

void exact_operands_end(harness *h) {
    if (!state.real) return;
    h->device->cl = state.driver;
    h->backend = state.real;
    free(state.kernel);
    state.kernel = NULL, state.real = NULL;
}
