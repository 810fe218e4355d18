// Finding, describing, opening devices; the backend's table.
#include "backends/cuda/device.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "core/alloc.h"

enum { GPU_GROUP = 256, GPU_VECTOR = 4, GPU_ALIGNMENT = 256 };

// ---- finding devices ----------------------------------------------------------------------------

static bool attribute(const cuda_driver *cu, CUdevice id, CUdevice_attribute what, int *out,
                      brim_error *err) {
    *out = 0;
    return cuda_check(cu, cu->device_get_attribute(out, what, id), "cuDeviceGetAttribute", err);
}

// Compute capability as 10 * major + minor: 89.
static int capability_of(const cuda_driver *cu, CUdevice id, brim_error *err) {
    int major = 0, minor = 0;
    attribute(cu, id, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, &major, err);
    attribute(cu, id, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR, &minor, err);
    return major * 10 + minor;
}

static bool find_device(const cuda_driver *cu, int index, CUdevice *out, brim_error *err) {
    int count = 0;
    if (!cuda_check(cu, cu->device_get_count(&count), "cuDeviceGetCount", err)) return false;
    if (index < 0 || index >= count) {
        brim_fail(err, BRIM_ARGUMENT, "there is no device cuda:%d: CUDA offers %d", index, count);
        return false;
    }
    return cuda_check(cu, cu->device_get(out, index), "cuDeviceGet", err);
}

// Devices can be used where a compiler for the first of them is there; the others say so when they
// are opened.
static int count_usable(const cuda_driver *cu, brim_error *err) {
    int count = 0, version = 0;
    CUdevice id;
    cuda_compiler nvrtc;
    if (!cuda_check(cu, cu->device_get_count(&count), "cuDeviceGetCount", err)) return 0;
    if (!count) {
        brim_fail(err, BRIM_DEVICE, "NVIDIA's driver is installed and finds no device");
        return 0;
    }
    cuda_check(cu, cu->driver_get_version(&version), "cuDriverGetVersion", err);
    if (!find_device(cu, 0, &id, err)) return 0;
    int capability = capability_of(cu, id, err);
    if (!cuda_compiler_open(&nvrtc, version, capability, err)) return 0;
    cuda_compiler_close(&nvrtc);
    return count;
}

static int count_devices(char *why, size_t size) {
    brim_error err = {0};
    cuda_driver cu;
    int count = 0;
    if (cuda_driver_open(&cu, &err)) {
        count = count_usable(&cu, &err);
        cuda_driver_close(&cu);
    }
    if (!count) snprintf(why, size, "%s", err.text);
    return count;
}

// ---- describing ---------------------------------------------------------------------------------

static void describe_device(const cuda_driver *cu, CUdevice id, device_traits *out,
                            brim_error *err) {
    int version = 0, local = 0, group = 0, units = 0;
    size_t bytes = 0;
    *out = (device_traits){
        .vec = GPU_VECTOR, .alignment = GPU_ALIGNMENT, .free_bytes = -1, .exact_f32 = true};
    cuda_check(cu, cu->device_get_name(out->name, sizeof out->name, id), "cuDeviceGetName", err);
    cuda_check(cu, cu->driver_get_version(&version), "cuDriverGetVersion", err);
    cuda_check(cu, cu->device_total_mem(&bytes, id), "cuDeviceTotalMem", err);
    attribute(cu, id, CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK, &local, err);
    attribute(cu, id, CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK, &group, err);
    attribute(cu, id, CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT, &units, err);
    snprintf(out->driver, sizeof out->driver, "CUDA %d.%d", version / 1000, version % 1000 / 10);
    snprintf(out->backend, sizeof out->backend, "cuda");
    snprintf(out->architecture, sizeof out->architecture, "sm_%d", capability_of(cu, id, err));
    out->max_group = group;
    out->group = group < GPU_GROUP ? group : GPU_GROUP;
    out->local_bytes = local;
    out->compute_units = units;
    out->memory_bytes = (int64_t)bytes;
}

static brim_status describe(int index, device_traits *out, brim_error *err) {
    cuda_driver cu;
    CUdevice id;
    if (!cuda_driver_open(&cu, err)) return err->status;
    if (find_device(&cu, index, &id, err)) describe_device(&cu, id, out, err);
    cuda_driver_close(&cu);
    return err->status;
}

// ---- contexts -----------------------------------------------------------------------------------

bool cuda_enter(const backend_device *d, CUcontext *before, brim_error *err) {
    *before = NULL;
    return !failed(err) &&
           cuda_check(&d->cu, d->cu.ctx_get_current(before), "cuCtxGetCurrent", err) &&
           cuda_check(&d->cu, d->cu.ctx_set_current(d->context), "cuCtxSetCurrent", err);
}

void cuda_leave(const backend_device *d, CUcontext before) {
    if (before != d->context) d->cu.ctx_set_current(before);
}

// ---- opening ------------------------------------------------------------------------------------

static bool apply_settings(backend_device *d, brim_error *err) {
    const device_settings *s = &d->settings;
    device_traits *t = &d->traits;
    if (s->vec != 0 && s->vec != 1 && s->vec != 4 && s->vec != 8 && s->vec != 16)
        brim_fail(err, BRIM_ARGUMENT, "vectors of %d floats: expected 1, 4, 8 or 16", s->vec);
    if (s->group < 0 || (s->group & (s->group - 1)) != 0 || s->group > t->max_group)
        brim_fail(err, BRIM_ARGUMENT, "groups of %d: expected a power of two up to %d", s->group,
                  t->max_group);
    if (s->chunk_bytes < 0 || s->chunk_bytes % t->alignment != 0)
        brim_fail(err, BRIM_ARGUMENT, "chunks of %lld bytes: expected a multiple of %lld",
                  (long long)s->chunk_bytes, (long long)t->alignment);
    if (s->chunk_bytes > 0) t->chunk_bytes = s->chunk_bytes;
    if (s->group) t->group = s->group;
    if (s->vec) t->vec = s->vec;
    return !failed(err);
}

static void open_queues(backend_device *d, brim_error *err) {
    for (int i = 0; i < DEVICE_QUEUES && !failed(err); i++) {
        cuda_check(&d->cu, d->cu.stream_create(&d->queue[i], CU_STREAM_NON_BLOCKING),
                   "cuStreamCreate", err);
        cuda_check(&d->cu, d->cu.event_create(&d->queue_end[i], CU_EVENT_DISABLE_TIMING),
                   "cuEventCreate", err);
    }
}

static void read_free_memory(backend_device *d, brim_error *err) {
    size_t free_bytes = 0, total = 0;
    if (!cuda_check(&d->cu, d->cu.mem_get_info(&free_bytes, &total), "cuMemGetInfo", err)) return;
    d->traits.free_bytes = (int64_t)free_bytes;
    d->traits.memory_bytes = (int64_t)total;
}

static void close_device(backend_device *d) {
    if (!d) return;
    host_queues_free(d->tasks);
    CUcontext before = NULL;
    brim_error ignored = {0}; // a lost device is closed as far as it goes
    if (d->context && cuda_enter(d, &before, &ignored)) {
        cuda_memory_free(d);
        cuda_matmul_close(d);
        run_events_close(&d->events, &d->cu);
        for (int i = 0; i < DEVICE_QUEUES; i++) {
            if (d->queue_end[i]) d->cu.event_destroy(d->queue_end[i]);
            if (d->queue[i]) d->cu.stream_destroy(d->queue[i]);
        }
        cuda_leave(d, before);
    }
    if (d->context) d->cu.device_primary_ctx_release(d->id);
    kernel_cache_close(d->cache);
    cuda_compiler_close(&d->nvrtc);
    cuda_driver_close(&d->cu);
    free(d);
}

static void start_in_context(backend_device *d, int driver_version, brim_error *err) {
    CUcontext before;
    if (!cuda_enter(d, &before, err)) return;
    const device_events events = {d, cuda_await_event, cuda_release_event, d->settings.before_task};
    d->tasks = host_queues_create(&events, err);
    open_queues(d, err);
    if (!failed(err)) cuda_matmul_open(d, driver_version, err);
    read_free_memory(d, err); // last: the library takes its share when it is opened
    cuda_leave(d, before);
}

static void start_device(backend_device *d, brim_error *err) {
    int version = 0;
    if (!apply_settings(d, err)) return;
    cuda_check(&d->cu, d->cu.driver_get_version(&version), "cuDriverGetVersion", err);
    int capability = capability_of(&d->cu, d->id, err);
    if (failed(err) || !cuda_compiler_open(&d->nvrtc, version, capability, err)) return;
    snprintf(d->identity, sizeof d->identity, "%s NVRTC %d.%d", d->nvrtc.architecture,
             d->nvrtc.major, d->nvrtc.minor);
    d->cache = kernel_cache_open(d->settings.cache_dir, err);
    if (!d->cache) return;
    CUcontext context;
    if (!cuda_check(&d->cu, d->cu.device_primary_ctx_retain(&context, d->id),
                    "cuDevicePrimaryCtxRetain", err))
        return;
    d->context = context;
    start_in_context(d, version, err);
}

static brim_status open_device(int index, const device_settings *settings, backend_device **out,
                               brim_error *err) {
    *out = NULL;
    backend_device *d = brim_calloc(sizeof *d, err);
    if (!d) return err->status;
    if (!cuda_driver_open(&d->cu, err)) {
        free(d);
        return err->status;
    }
    if (settings) d->settings = *settings;
    run_events_open(&d->events);
    if (find_device(&d->cu, index, &d->id, err)) describe_device(&d->cu, d->id, &d->traits, err);
    if (!failed(err)) start_device(d, err);
    d->settings.cache_dir = NULL; // the caller's text, used up
    if (failed(err)) {
        brim_error_prefix(err, "device cuda:%d", index);
        close_device(d);
        return err->status;
    }
    *out = d;
    return BRIM_OK;
}

static const device_traits *traits(const backend_device *d) {
    return &d->traits;
}

static const char *matmul_library(const backend_device *d) {
    return d->matmul.name;
}

static const char *warning(const backend_device *d) {
    return kernel_cache_warning(d->cache);
}

const backend cuda_backend = {
    .name = "cuda",
    .count = count_devices,
    .describe = describe,
    .open = open_device,
    .close = close_device,
    .traits = traits,
    .reserve = cuda_reserve,
    .host_memory = cuda_host_memory,
    .pinned_bytes = cuda_pinned_bytes,
    .write = cuda_write,
    .read = cuda_read,
    .write_file = cuda_write_file,
    .read_file = cuda_read_file,
    .matmul_library = matmul_library,
    .matmul_workspace = cuda_matmul_workspace,
    .matmul_native = cuda_matmul_serves,
    .load = cuda_load,
    .unload = cuda_unload,
    .warning = warning,
    .run = cuda_run,
    .wait = cuda_wait,
    .finish = cuda_finish,
    .profile = cuda_profile,
    .step_through = cuda_step_through,
    .stalls = cuda_stalls,
};
