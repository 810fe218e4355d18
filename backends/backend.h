// What a GPU API must offer. Two backends implement it: backends/cuda/ and backends/opencl/, file by file alike.
//
// 1. backends_list fills a table of devices, or of reasons why an API is not there.
// 2. backend->open gives a device; its traits tell lowering how to specialise kernels.
// 3. reserve takes all memory at once; nothing is allocated after load.
// 4. load compiles a program's kernels (through the cache) and prepares every record.
// 5. run submits one section; read waits for it.
//
// Work of our own threads (host kernels, the file) can fail after run has returned, on a full disk for instance. Such an
// error is kept: later work on the host is dropped, and run, wait, finish, read and write return it from then on.
#ifndef BRIM_BACKENDS_BACKEND_H
#define BRIM_BACKENDS_BACKEND_H

#include "backends/program.h"
#include "backends/stalls.h"

typedef struct device_traits {
    char name[128], driver[128], backend[16];
    bool cpu;                 // a CPU device: vectors in registers, groups of one
    int32_t vec;              // floats in a vector: 16 or 8 on a CPU, 4 (or 1) on a GPU
    int32_t group;            // work-group size of row kernels and elementwise kernels; 1 on a CPU
    int32_t max_group;
    int64_t local_bytes;      // of a work-group
    int64_t memory_bytes, free_bytes; // free: -1 where the driver does not tell
    int64_t chunk_bytes;      // largest single allocation; 0: no limit
    int64_t alignment;        // of storages, in bytes
    bool one_queue;           // copies to the device and from it take their turn with kernels
    bool exact_f32;           // IEEE division, square root and denormals, as on the host
    int32_t compute_units;
    char architecture[32];    // "sm_89"; empty for OpenCL
} device_traits;

typedef struct device_settings { // how tests and users bend the traits; zero is the default
    int32_t vec, group;
    bool own_products; // matrix products by our kernel, whatever libraries there are
    bool clblast;      // OpenCL: by CLBlast on a CPU device, too, and not by a host library
    bool separate_queues; // OpenCL: a queue for each queue_id on a CPU device, too
    int64_t chunk_bytes;  // smaller chunks than the driver asks for
    bool poison;      // fill memory with NaN patterns at start
    const char *cache_dir; // kernel cache; NULL: the user's cache directory; "": none
    void (*before_task)(queue_id queue); // called by our threads before each piece of work, for tests
} device_settings;

typedef struct memory_request { // extents of the spaces
    int64_t device_bytes, host_bytes, file_bytes;
    const char *file_directory; // where the file is made, if file_bytes is not 0
} memory_request;

typedef struct backend_device backend_device;
typedef struct loaded_program loaded_program;

typedef struct record_watcher {
    void (*done)(void *user, int32_t record, brim_error *err);
    void *user;
} record_watcher;

typedef struct backend {
    const char *name; // "cuda", "opencl"

    // How many devices there are; 0 with the reason in `why`.
    int (*count)(char *why, size_t size);
    // Traits of device i without opening it.
    brim_status (*describe)(int index, device_traits *out, brim_error *err);

    brim_status (*open)(int index, const device_settings *settings, backend_device **out, brim_error *err);
    void (*close)(backend_device *device);
    const device_traits *(*traits)(const backend_device *device);

    // All memory, and the file, once. The error names the bytes missing.
    brim_status (*reserve)(backend_device *device, const memory_request *request, brim_error *err);
    // The host space; valid until close.
    void *(*host_memory)(backend_device *device);
    // How many bytes of it the device reaches without a copy in between (pinned, or the device is the host).
    int64_t (*pinned_bytes)(const backend_device *device);
    // The device space and the file. Synchronous, for parameters, checkpoints and tests; see device_write_range.
    brim_status (*write)(backend_device *device, int64_t offset, const void *data, int64_t bytes, brim_error *err);
    brim_status (*read)(backend_device *device, int64_t offset, void *data, int64_t bytes, brim_error *err);
    brim_status (*write_file)(backend_device *device, int64_t offset, const void *data, int64_t bytes,
                              brim_error *err);
    brim_status (*read_file)(backend_device *device, int64_t offset, void *data, int64_t bytes, brim_error *err);

    // Scratch that the device's matrix-product library wants for a shape (fixed before planning).
    brim_status (*matmul_workspace)(backend_device *device, const matmul_shape *shape, int64_t *bytes,
                                    brim_error *err);
    // What serves matrix products, with its version; "" where no library does. Valid until close.
    const char *(*matmul_library)(const backend_device *device);
    // True if RECORD_MATMUL of that shape is served by a library; else lowering launches kernels/matmul.k.
    bool (*matmul_native)(backend_device *device, const matmul_shape *shape);

    // The program must outlive the loaded one.
    brim_status (*load)(backend_device *device, const program *p, loaded_program **out, brim_error *err);
    void (*unload)(loaded_program *loaded);
    // What users should know of loading: a kernel cache that is not used, and why; "": nothing.
    const char *(*warning)(const backend_device *device);
    // Submits the records of one section (a SECTION_* bit) for one micro-batch of the step (see copy_record); returns
    // before they are done.
    brim_status (*run)(loaded_program *loaded, uint8_t section, int32_t micro_batch, brim_error *err);
    // Waits until all that was submitted to the device's queues is done.
    brim_status (*wait)(backend_device *device, brim_error *err);
    // The same, and for all other queues.
    brim_status (*finish)(backend_device *device, brim_error *err);

    // Optional: runs a section once more (micro-batch 0), one record after another, and tells the seconds of each; 0 for
    // those that are not of the section. For bench_step; NULL where profiling is not offered.
    brim_status (*profile)(loaded_program *loaded, uint8_t section, double *seconds, brim_error *err);

    // Runs a section one record after another, in the order of the list, each done before the next begins; `watcher`, if
    // it is not NULL, is told after each, and may read the device's memory. An error, the watcher's too, ends it.
    brim_status (*step_through)(loaded_program *loaded, uint8_t section, int32_t micro_batch,
                                const record_watcher *watcher, brim_error *err);

    // Optional: what the program's runs since the last call waited for, and how its queues were used; after a wait.
    // The first call gives zeros: from then on runs are timed. So do all calls for a program that has work on no other
    // queue than the compute queue.
    brim_status (*stalls)(loaded_program *loaded, run_stalls *out, brim_error *err);
} backend;

extern const backend cuda_backend;
extern const backend opencl_backend;

// The backends this build has, best first; NULL-terminated.
extern const backend *const backend_list[];

// Parses "cuda", "cuda:1", "opencl:0", "cpu", or "" / "auto" (best found: CUDA, then an OpenCL GPU, then an OpenCL CPU) and opens
// it. The error lists what there is.
brim_status backend_open(const char *name, const device_settings *settings, const backend **out_backend,
                         backend_device **out, brim_error *err);

// Bytes of any space, after all that was submitted. data has range->bytes.
brim_status device_write_range(const backend *api, backend_device *device, const byte_range *range, const void *data,
                               brim_error *err);
brim_status device_read_range(const backend *api, backend_device *device, const byte_range *range, void *data,
                              brim_error *err);
// Puts the device's name before an error of its driver.
brim_status device_named(const backend *api, const backend_device *device, brim_error *err);

#endif
