// Finding, describing, opening devices; the backend's table.
#include "backends/opencl/device.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "backends/host_memory.h"
#include "core/alloc.h"

// ---- finding devices ----------------------------------------------------------------------------

enum { MAX_PLATFORMS = 16, MAX_DEVICES = 64 };

typedef struct found_device {
    cl_platform_id platform;
    cl_device_id id;
    cl_device_type type;
    cl_int status; // of the question for its type
} found_device;

// Devices that are CPUs come last: 0 for GPUs, 1 for other accelerators, 2 for CPUs.
static int rank_of(cl_device_type type) {
    if (type & CL_DEVICE_TYPE_GPU) return 0;
    return type & CL_DEVICE_TYPE_CPU ? 2 : 1;
}

static int find_on_platform(const opencl_driver *cl, cl_platform_id platform, found_device *list,
                            int room) {
    cl_device_id id[MAX_DEVICES];
    cl_uint count = 0;
    if (cl->clGetDeviceIDs(platform, CL_DEVICE_TYPE_ALL, MAX_DEVICES, id, &count) != CL_SUCCESS)
        return 0;
    if (count > MAX_DEVICES) count = MAX_DEVICES;
    int found = 0;
    for (cl_uint i = 0; i < count && found < room; i++) {
        found_device one = {platform, id[i], 0, CL_SUCCESS};
        one.status = cl->clGetDeviceInfo(id[i], CL_DEVICE_TYPE, sizeof one.type, &one.type, NULL);
        if (!(one.type & CL_DEVICE_TYPE_CUSTOM)) list[found++] = one;
    }
    return found;
}

// All devices of all platforms, best kind first, otherwise in the order of the drivers.
static int find_devices(const opencl_driver *cl, found_device list[MAX_DEVICES]) {
    cl_platform_id platform[MAX_PLATFORMS];
    cl_uint platforms = 0;
    if (cl->clGetPlatformIDs(MAX_PLATFORMS, platform, &platforms) != CL_SUCCESS) return 0;
    if (platforms > MAX_PLATFORMS) platforms = MAX_PLATFORMS;
    found_device found[MAX_DEVICES];
    int count = 0, sorted = 0;
    for (cl_uint i = 0; i < platforms; i++)
        count += find_on_platform(cl, platform[i], found + count, MAX_DEVICES - count);
    for (int rank = 0; rank <= 2; rank++) {
        for (int i = 0; i < count; i++) {
            if (rank_of(found[i].type) == rank) list[sorted++] = found[i];
        }
    }
    return sorted;
}

static int count_devices(char *why, size_t size) {
    brim_error err = {0};
    opencl_driver cl;
    if (!opencl_driver_open(&cl, &err)) {
        snprintf(why, size, "%s", err.text);
        return 0;
    }
    found_device list[MAX_DEVICES];
    int count = find_devices(&cl, list);
    opencl_driver_close(&cl);
    if (count == 0)
        snprintf(why, size, "%s",
                 "OpenCL is installed, but no platform of it offers a device (is a "
                 "driver such as pocl-opencl-icd installed?)");
    return count;
}

// ---- describing ---------------------------------------------------------------------------------

// Who is asked. A question that is not answered is an error: what a device is decides which kernels
// it runs, and so the bits of the results.
typedef struct asked_device {
    const opencl_driver *cl;
    cl_platform_id platform;
    cl_device_id id;
    brim_error *err;
} asked_device;

static void ask(const asked_device *a, cl_device_info what, size_t bytes, void *value) {
    opencl_check(a->cl->clGetDeviceInfo(a->id, what, bytes, value, NULL), "clGetDeviceInfo",
                 a->err);
}

static cl_ulong query(const asked_device *a, cl_device_info what, size_t bytes) {
    cl_ulong value = 0; // little-endian hosts only: a narrower value fills the low bytes
    ask(a, what, bytes < sizeof value ? bytes : sizeof value, &value);
    return failed(a->err) ? 0 : value;
}
#define QUERY(a, what, type) ((type)query(a, what, sizeof(type)))

static void query_text(const asked_device *a, cl_device_info what, char *text, size_t size) {
    char full[1024] = "";
    ask(a, what, sizeof full, full);
    full[sizeof full - 1] = '\0';
    char *start = full + strspn(full, " ");
    for (size_t n = strlen(start); n > 0 && start[n - 1] == ' '; n--) start[n - 1] = '\0';
    snprintf(text, size, "%s", start);
}

static void platform_text(const asked_device *a, cl_platform_info what, char *text, size_t size) {
    char full[1024] = "";
    opencl_check(a->cl->clGetPlatformInfo(a->platform, what, sizeof full, full, NULL),
                 "clGetPlatformInfo", a->err);
    full[sizeof full - 1] = '\0';
    snprintf(text, size, "%s", full);
}

// What makes a device unusable, or NULL.
static const char *unfit(const asked_device *a) {
    char version[256], profile[64];
    query_text(a, CL_DEVICE_VERSION, version, sizeof version);
    query_text(a, CL_DEVICE_PROFILE, profile, sizeof profile);
    int major = 0, minor = 0;
    sscanf(version, "OpenCL %d.%d", &major, &minor);
    if (major * 10 + minor < 12) return "it offers less than OpenCL 1.2";
    if (strcmp(profile, "FULL_PROFILE") != 0) return "it offers only OpenCL's embedded profile";
    if (!QUERY(a, CL_DEVICE_AVAILABLE, cl_bool)) return "its driver says it is not available";
    if (!QUERY(a, CL_DEVICE_COMPILER_AVAILABLE, cl_bool)) return "its driver has no compiler";
    if (!QUERY(a, CL_DEVICE_ENDIAN_LITTLE, cl_bool)) return "it is big-endian";
    return NULL;
}

static int32_t power_of_two_below(int64_t x) {
    int32_t p = 1;
    while (p <= x / 2 && p < 1 << 20) p *= 2;
    return p;
}

static bool has_exact_f32(const asked_device *a) {
    const cl_device_fp_config wanted = CL_FP_DENORM | CL_FP_INF_NAN | CL_FP_ROUND_TO_NEAREST |
                                       CL_FP_FMA | CL_FP_CORRECTLY_ROUNDED_DIVIDE_SQRT;
    return (QUERY(a, CL_DEVICE_SINGLE_FP_CONFIG, cl_device_fp_config) & wanted) == wanted;
}

static void describe_device(const opencl_driver *cl, const found_device *found, device_traits *out,
                            brim_error *err) {
    const asked_device *a = &(asked_device){cl, found->platform, found->id, err};
    bool cpu = rank_of(found->type) == 2;
    *out = (device_traits){.cpu = cpu, .free_bytes = cpu ? host_memory_available() : -1};
    opencl_check(found->status, "clGetDeviceInfo", err);
    char platform[128], version[128];
    query_text(a, CL_DEVICE_NAME, out->name, sizeof out->name);
    platform_text(a, CL_PLATFORM_NAME, platform, sizeof platform);
    query_text(a, CL_DRIVER_VERSION, version, sizeof version);
    snprintf(out->driver, sizeof out->driver, "%.80s %.40s", platform, version);
    snprintf(out->backend, sizeof out->backend, "opencl");

    size_t items[16] = {0}; // of work-group dimensions
    ask(a, CL_DEVICE_MAX_WORK_ITEM_SIZES, sizeof items, items);
    size_t group = QUERY(a, CL_DEVICE_MAX_WORK_GROUP_SIZE, size_t);
    if (items[0] > 0 && items[0] < group) group = items[0];
    out->max_group = power_of_two_below((int64_t)group);
    out->group = cpu ? 1 : out->max_group < 256 ? out->max_group : 256;
    out->vec = !cpu ? 4 : QUERY(a, CL_DEVICE_NATIVE_VECTOR_WIDTH_FLOAT, cl_uint) >= 16 ? 16 : 8;
    out->local_bytes = (int64_t)QUERY(a, CL_DEVICE_LOCAL_MEM_SIZE, cl_ulong);
    out->memory_bytes = (int64_t)QUERY(a, CL_DEVICE_GLOBAL_MEM_SIZE, cl_ulong);
    int64_t base_align = QUERY(a, CL_DEVICE_MEM_BASE_ADDR_ALIGN, cl_uint) / 8;
    out->alignment = 256;
    while (out->alignment < base_align) out->alignment *= 2;
    int64_t chunk = (int64_t)QUERY(a, CL_DEVICE_MAX_MEM_ALLOC_SIZE, cl_ulong);
    out->chunk_bytes = chunk / out->alignment * out->alignment;
    out->exact_f32 = has_exact_f32(a);
    out->compute_units = (int32_t)QUERY(a, CL_DEVICE_MAX_COMPUTE_UNITS, cl_uint);
}

// Whether the device can be used. It need not have answered what one that is too old cannot.
static bool check_device(const opencl_driver *cl, const found_device *found, const char *name,
                         const brim_error *unanswered, brim_error *err) {
    if (failed(err)) return false;
    const char *reason = unfit(&(asked_device){cl, found->platform, found->id, err});
    if (failed(err)) return false;
    if (reason)
        brim_fail(err, BRIM_UNSUPPORTED, "%s cannot be used: %s", name, reason);
    else if (failed(unanswered))
        *err = *unanswered;
    return !failed(err);
}

// Opens the driver and finds device `index`; the driver is closed again on failure.
static bool find_device(int index, opencl_driver *cl, found_device *out, brim_error *err) {
    if (failed(err) || !opencl_driver_open(cl, err)) return false;
    found_device list[MAX_DEVICES];
    int count = find_devices(cl, list);
    if (index >= 0 && index < count) {
        *out = list[index];
        return true;
    }
    brim_fail(err, BRIM_ARGUMENT, "there is no device opencl:%d: OpenCL offers %d", index, count);
    opencl_driver_close(cl);
    return false;
}

static brim_status describe(int index, device_traits *out, brim_error *err) {
    opencl_driver cl;
    found_device found;
    if (!find_device(index, &cl, &found, err)) return err->status;
    brim_error unanswered = {0};
    describe_device(&cl, &found, out, &unanswered);
    check_device(&cl, &found, out->name, &unanswered, err);
    brim_error_prefix(err, "device opencl:%d", index);
    opencl_driver_close(&cl);
    return err->status;
}

// ---- opening ------------------------------------------------------------------------------------

static bool apply_settings(backend_device *d, brim_error *err) {
    const device_settings *s = &d->settings;
    device_traits *t = &d->traits;
    bool vec_known = s->vec == 0 || s->vec == 1 || s->vec == 4 || s->vec == 8 || s->vec == 16;
    bool group_power = s->group >= 0 && (s->group & (s->group - 1)) == 0;
    if (!vec_known)
        brim_fail(err, BRIM_ARGUMENT, "vectors of %d floats: expected 1, 4, 8 or 16", s->vec);
    if (!group_power || s->group > t->max_group)
        brim_fail(err, BRIM_ARGUMENT, "groups of %d: expected a power of two up to %d", s->group,
                  t->max_group);
    if (s->group > 1) t->cpu = false, t->vec = 4; // a CPU that is told to work as a GPU does
    if (s->chunk_bytes < 0 || s->chunk_bytes % t->alignment != 0)
        brim_fail(err, BRIM_ARGUMENT, "chunks of %lld bytes: expected a multiple of %lld",
                  (long long)s->chunk_bytes, (long long)t->alignment);
    if (s->chunk_bytes > 0 && s->chunk_bytes < t->chunk_bytes) t->chunk_bytes = s->chunk_bytes;
    if (s->group) t->group = s->group;
    if (s->vec) t->vec = s->vec;
    return !failed(err);
}

static void set_build_options(backend_device *d, const asked_device *a) {
    const cl_device_fp_config config = QUERY(a, CL_DEVICE_SINGLE_FP_CONFIG, cl_device_fp_config);
    const char *exact = config & CL_FP_CORRECTLY_ROUNDED_DIVIDE_SQRT
                            ? " -cl-fp32-correctly-rounded-divide-sqrt"
                            : "";
    snprintf(d->build_options, sizeof d->build_options, "-cl-std=CL1.2%s", exact);
    char vendor[128], device_version[128], platform_version[160];
    query_text(a, CL_DEVICE_VENDOR, vendor, sizeof vendor);
    query_text(a, CL_DEVICE_VERSION, device_version, sizeof device_version);
    platform_text(a, CL_PLATFORM_VERSION, platform_version, sizeof platform_version);
    snprintf(d->identity, sizeof d->identity, "%s|%s|%s|%s|%s", vendor, d->traits.name,
             d->traits.driver, device_version, platform_version);
}

static void close_queues(backend_device *d, cl_command_queue queue[DEVICE_QUEUES]) {
    for (int i = 0; i < DEVICE_QUEUES; i++)
        if (queue[i] && (i == 0 || d->separate_queues)) d->cl.clReleaseCommandQueue(queue[i]);
}

static cl_int open_queues(backend_device *d, cl_command_queue_properties properties,
                          cl_command_queue queue[DEVICE_QUEUES]) {
    cl_int status = CL_SUCCESS;
    for (int i = 0; i < DEVICE_QUEUES && status == CL_SUCCESS; i++) {
        if (i == 0 || d->separate_queues)
            queue[i] = d->cl.clCreateCommandQueue(d->context, d->id, properties, &status);
        else
            queue[i] = queue[0];
    }
    return status;
}

bool opencl_profile_queues(backend_device *d, brim_error *err) {
    if (d->profiled_queues || opencl_finish(d, err)) return d->profiled_queues;
    cl_command_queue profiled[DEVICE_QUEUES] = {NULL};
    d->profiled_queues = open_queues(d, CL_QUEUE_PROFILING_ENABLE, profiled) == CL_SUCCESS;
    close_queues(d, d->profiled_queues ? d->queue : profiled);
    if (d->profiled_queues) memcpy(d->queue, profiled, sizeof profiled);
    return d->profiled_queues;
}

static void close_device(backend_device *d) {
    if (!d) return;
    opencl_driver *cl = &d->cl;
    host_queues_free(d->tasks);
    for (int i = 0; i < DEVICE_QUEUES; i++) {
        if (d->queue[i]) cl->clFinish(d->queue[i]);
    }
    opencl_matmul_close(d);
    opencl_memory_free(d);
    close_queues(d, d->queue);
    if (d->context) cl->clReleaseContext(d->context);
    kernel_cache_close(d->cache);
    opencl_driver_close(cl);
    free(d);
}

static void start_device(backend_device *d, const found_device *found, brim_error *err) {
    const asked_device *a = &(asked_device){&d->cl, d->platform, d->id, err};
    brim_error unanswered = {0};
    describe_device(&d->cl, found, &d->traits, &unanswered);
    if (!check_device(&d->cl, found, d->traits.name, &unanswered, err)) return;
    d->traits.one_queue = !d->separate_queues;
    if (!apply_settings(d, err)) return;
    d->parameter_bytes = (int64_t)QUERY(a, CL_DEVICE_MAX_PARAMETER_SIZE, size_t);
    d->address_bits = QUERY(a, CL_DEVICE_ADDRESS_BITS, cl_uint);
    d->native_kernels = QUERY(a, CL_DEVICE_EXECUTION_CAPABILITIES, cl_device_exec_capabilities) &
                        CL_EXEC_NATIVE_KERNEL;
    set_build_options(d, a);
    d->cache = kernel_cache_open(d->settings.cache_dir, err);
    if (!d->cache) return;
    const cl_context_properties properties[] = {CL_CONTEXT_PLATFORM,
                                                (cl_context_properties)d->platform, 0};
    cl_int status;
    d->context = d->cl.clCreateContext(properties, 1, &d->id, NULL, NULL, &status);
    if (!opencl_check(status, "clCreateContext", err)) return;
    status = open_queues(d, 0, d->queue);
    if (!opencl_check(status, "clCreateCommandQueue", err)) return;
    const device_events events = {d, opencl_await_event, opencl_release_event,
                                  d->settings.before_task};
    d->tasks = host_queues_create(&events, err);
    if (d->tasks) opencl_matmul_open(d, err);
}

static brim_status open_device(int index, const device_settings *settings, backend_device **out,
                               brim_error *err) {
    *out = NULL;
    backend_device *d = brim_calloc(sizeof *d, err);
    if (!d) return err->status;
    found_device found;
    if (!find_device(index, &d->cl, &found, err)) {
        free(d);
        return err->status;
    }
    d->platform = found.platform;
    d->id = found.id;
    d->host_is_device = rank_of(found.type) == 2;
    if (settings) d->settings = *settings;
    d->separate_queues = !d->host_is_device || d->settings.separate_queues;
    start_device(d, &found, err);
    d->settings.cache_dir = NULL; // the caller's text, used up
    if (failed(err)) {
        brim_error_prefix(err, "device opencl:%d", index);
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

const backend opencl_backend = {
    .name = "opencl",
    .count = count_devices,
    .describe = describe,
    .open = open_device,
    .close = close_device,
    .traits = traits,
    .reserve = opencl_reserve,
    .host_memory = opencl_host_memory,
    .pinned_bytes = opencl_pinned_bytes,
    .write = opencl_write,
    .read = opencl_read,
    .write_file = opencl_write_file,
    .read_file = opencl_read_file,
    .matmul_library = matmul_library,
    .matmul_workspace = opencl_matmul_workspace,
    .matmul_native = opencl_matmul_serves,
    .load = opencl_load,
    .unload = opencl_unload,
    .warning = warning,
    .run = opencl_run,
    .wait = opencl_wait,
    .finish = opencl_finish,
    .profile = opencl_profile,
    .step_through = opencl_step_through,
    .stalls = opencl_stalls,
};
