// An opened OpenCL device: what its files share. memory.c, module.c, matmul.c and program.c work on
// it.
#ifndef BRIM_BACKENDS_OPENCL_DEVICE_H
#define BRIM_BACKENDS_OPENCL_DEVICE_H

#include "backends/backend.h"
#include "backends/host_records.h"
#include "backends/kernel_cache.h"
#include "backends/opencl/driver.h"
#include "backends/opencl/matmul.h"

// A part of a chunk, as a memory object of its own.
typedef struct memory_part {
    cl_mem object, chunk;
    cl_buffer_region region;
} memory_part;

// The device space in chunks that the driver can allocate, and the spaces of the host.
typedef struct opencl_memory {
    cl_mem *chunk;
    int32_t chunks;
    memory_part *part; // all that were asked for
    size_t parts, part_capacity;
    int64_t chunk_bytes; // of each but the last
    int64_t device_bytes;
    void *mapped; // CPU devices: where the chunks lie in our address space, else NULL
    size_t mapped_bytes;
    host_spaces spaces;
    cl_mem host_buffer; // what the host space is mapped from; NULL: it is plain memory
} opencl_memory;

struct backend_device {
    opencl_driver cl;
    cl_platform_id platform;
    cl_device_id id;
    cl_context context;
    // In order. QUEUE_IN and QUEUE_OUT are the compute queue again where copies gain nothing from
    // queues of their own.
    cl_command_queue queue[DEVICE_QUEUES];
    bool separate_queues;
    bool profiled_queues;
    host_queues *tasks;             // what our threads do
    const loaded_program *last_run; // whose records are in the queues
    bool host_is_device;            // a CPU: device memory is host memory
    int64_t parameter_bytes;        // that a kernel's arguments may take
    int64_t address_bits;
    bool native_kernels; // it runs functions of the host in its queues
    char build_options[160];
    char identity[768]; // device, driver and platform with their versions: part of the cache's key
    device_settings settings;
    device_traits traits;
    opencl_memory memory;
    opencl_matmul matmul;
    kernel_cache *cache;
};

// device.c
// From now on the queues tell when their work began and ended; false where the driver has no such
// queues. Nothing is submitted.
bool opencl_profile_queues(backend_device *d, brim_error *err);

// memory.c
brim_status opencl_reserve(backend_device *d, const memory_request *request, brim_error *err);
void opencl_memory_free(backend_device *d);
void *opencl_host_memory(backend_device *d);
int64_t opencl_pinned_bytes(const backend_device *d);
brim_status opencl_write(backend_device *d, int64_t offset, const void *data, int64_t bytes,
                         brim_error *err);
brim_status opencl_read(backend_device *d, int64_t offset, void *data, int64_t bytes,
                        brim_error *err);
brim_status opencl_write_file(backend_device *d, int64_t offset, const void *data, int64_t bytes,
                              brim_error *err);
brim_status opencl_read_file(backend_device *d, int64_t offset, void *data, int64_t bytes,
                             brim_error *err);
// The chunk that holds the bytes offset .. offset + bytes - 1, and where in it they start; NULL
// with err set where they are outside the space or straddle two chunks.
cl_mem opencl_chunk(backend_device *d, int64_t offset, int64_t bytes, size_t *within,
                    brim_error *err);
// The same, and a memory object of little more than those bytes. It is there until the memory is
// freed.
cl_mem opencl_part(backend_device *d, int64_t offset, int64_t bytes, size_t *within,
                   brim_error *err);

// module.c
// Compiles the kernel's source, or takes it from the cache. The error has the first lines of the
// compiler's log.
cl_program opencl_module_build(backend_device *d, const kernel_spec *spec, brim_error *err);

// program.c
brim_status opencl_load(backend_device *d, const program *p, loaded_program **out, brim_error *err);
void opencl_unload(loaded_program *loaded);

// run.c
// How the tasks' threads wait for the device; a device_events of it.
void opencl_await_event(void *device, void *event, brim_error *err);
void opencl_release_event(void *device, void *event);
brim_status opencl_run(loaded_program *loaded, uint8_t section, int32_t micro_batch,
                       brim_error *err);
brim_status opencl_wait(backend_device *d, brim_error *err);
brim_status opencl_finish(backend_device *d, brim_error *err);
brim_status opencl_profile(loaded_program *loaded, uint8_t section, double *seconds,
                           brim_error *err);
brim_status opencl_step_through(loaded_program *loaded, uint8_t section, int32_t micro_batch,
                                const record_watcher *watcher, brim_error *err);

// timing.c
brim_status opencl_stalls(loaded_program *loaded, run_stalls *out, brim_error *err);

#endif
