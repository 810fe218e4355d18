// An opened CUDA device: what its files share. memory.c, module.c, matmul.c and program.c work on
// it.
#ifndef BRIM_BACKENDS_CUDA_DEVICE_H
#define BRIM_BACKENDS_CUDA_DEVICE_H

#include "backends/backend.h"
#include "backends/cuda/driver.h"
#include "backends/cuda/matmul.h"
#include "backends/cuda/run_events.h"
#include "backends/host_records.h"
#include "backends/kernel_cache.h"

// The device space is one allocation; the host space is pinned, or ordinary memory where the driver
// refuses to pin that much. What comes from memory that is not pinned, or goes there, passes
// through two pinned buffers in turn.
enum { CUDA_PASSAGES = 2, CUDA_PASSAGE_BYTES = 4 << 20 };
typedef struct cuda_passage {
    char *buffer[CUDA_PASSAGES];
    CUevent free[CUDA_PASSAGES]; // the buffer's latest copy is done
} cuda_passage;
typedef struct cuda_memory {
    CUdeviceptr base;
    int64_t device_bytes;
    host_spaces spaces;
    bool pinned;
    cuda_passage passage;                      // of read and write
    cuda_passage queue_passage[DEVICE_QUEUES]; // where the host space is not pinned: of its copies
} cuda_memory;

struct backend_device {
    cuda_driver cu;
    cuda_compiler nvrtc;
    CUdevice id;
    CUcontext context; // the primary one, shared with whoever else uses the device in this process
    CUstream queue[DEVICE_QUEUES];
    CUevent queue_end[DEVICE_QUEUES]; // for joining the queues
    host_queues *tasks;               // what our threads do
    run_events events;
    const loaded_program *last_run; // whose records are in the queues
    char identity[160];             // of what compiles: part of the cache's key
    device_settings settings;
    device_traits traits;
    cuda_memory memory;
    cuda_matmul matmul;
    kernel_cache *cache;
};

// device.c
// Calls work on the thread's current context. enter makes it the device's and tells what it was;
// leave sets that again.
bool cuda_enter(const backend_device *d, CUcontext *before, brim_error *err);
void cuda_leave(const backend_device *d, CUcontext before);

// memory.c
brim_status cuda_reserve(backend_device *d, const memory_request *request, brim_error *err);
void cuda_memory_free(backend_device *d);
void *cuda_host_memory(backend_device *d);
int64_t cuda_pinned_bytes(const backend_device *d);
brim_status cuda_write(backend_device *d, int64_t offset, const void *data, int64_t bytes,
                       brim_error *err);
brim_status cuda_read(backend_device *d, int64_t offset, void *data, int64_t bytes,
                      brim_error *err);
// Copies between the device and memory that is not pinned, on a stream and a passage that nobody
// else uses meanwhile; returns when it is done. In the device's context.
void cuda_copy_in(const backend_device *d, const cuda_passage *passage, CUstream stream,
                  CUdeviceptr to, const char *from, int64_t bytes, brim_error *err);
void cuda_copy_out(const backend_device *d, const cuda_passage *passage, CUstream stream, char *to,
                   CUdeviceptr from, int64_t bytes, brim_error *err);
brim_status cuda_write_file(backend_device *d, int64_t offset, const void *data, int64_t bytes,
                            brim_error *err);
brim_status cuda_read_file(backend_device *d, int64_t offset, void *data, int64_t bytes,
                           brim_error *err);
// The address of the bytes offset .. offset + bytes - 1; false with err set where they are outside
// the space.
bool cuda_address(const backend_device *d, int64_t offset, int64_t bytes, CUdeviceptr *out,
                  brim_error *err);

// module.c
typedef struct cuda_image {
    void *data; // a cubin, or PTX; freed with free()
    size_t bytes;
    char *log; // of the compiler, if it was asked for; freed with free()
} cuda_image;
// Compiles the kernel for the compiler's architecture. `verbose`: the log has registers and spills.
// The error has the first lines of the log.
bool cuda_compile(const cuda_compiler *nvrtc, const kernel_spec *spec, bool verbose,
                  cuda_image *out, brim_error *err);
// Compiles `count` kernels, or takes them from the cache, and loads them: module[module_of[i]] has
// kernel i. Returns the number of modules, no more than kernels; those that were loaded before an
// error are not NULL.
int32_t cuda_modules_build(backend_device *d, const kernel_spec *spec, int32_t count,
                           CUmodule *module, int32_t *module_of, brim_error *err);

// program.c
brim_status cuda_load(backend_device *d, const program *p, loaded_program **out, brim_error *err);
void cuda_unload(loaded_program *loaded);

// run.c
// How the tasks' threads wait for the device; a device_events of it.
void cuda_await_event(void *device, void *event, brim_error *err);
void cuda_release_event(void *device, void *event);
brim_status cuda_run(loaded_program *loaded, uint8_t section, int32_t micro_batch, brim_error *err);
brim_status cuda_wait(backend_device *d, brim_error *err);
brim_status cuda_finish(backend_device *d, brim_error *err);
brim_status cuda_profile(loaded_program *loaded, uint8_t section, double *seconds, brim_error *err);
brim_status cuda_step_through(loaded_program *loaded, uint8_t section, int32_t micro_batch,
                              const record_watcher *watcher, brim_error *err);

// timing.c
brim_status cuda_stalls(loaded_program *loaded, run_stalls *out, brim_error *err);

#endif
