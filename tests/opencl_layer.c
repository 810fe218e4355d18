// An OpenCL layer (an intermediate library that the ICD loader puts between program and driver)
// that makes a device look and behave like other ones, within what the standard allows. Loaded
// with OPENCL_LAYERS=this file; which peculiarities it has is said by BRIM_TEST_LAYER, a list of
// words:
//
//   gpu       a GPU: no native kernels, no denormals, no correctly rounded division
//   small     allocations of 1 MiB, groups of 64, sub-buffers at multiples of 4 KiB only
//   narrow    groups of 48 along their first axis, where 4096 are possible in all
//   boundless groups as wide along an axis as in all, which is not said for an axis
//   lean, fat vectors of 4 floats, or of 16
//   full      3 MiB in all
//   unpinned  no memory that is shared with the host
//   updated   the driver has another version
//   fragile   it crashes where a sub-buffer is released while a younger one is there; not within
//             the standard, but as a driver was seen to do
//   brief, terse   68 bytes of arguments for a kernel, or 67 (the standard wants more)
//   forgetful programs cannot be made of binaries
//   slow      commands start late, each queue after delays of its own
//   unordered queues are out of order, and each command waits by an event for the one before it in
//             its queue: nothing but events orders what runs
//   crowd     20 platforms, each with the devices of `crowd` below before its own
//   horde     70 devices before its own on one platform
//   old, embedded, compilerless, absent      a device that cannot be used
#include <CL/cl_layer.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { SMALL_ALLOCATION = 1 << 20, ALL_MEMORY = 3 << 20, SMALL_GROUP = 64, SMALL_ALIGNMENT = 4096 };

static const cl_icd_dispatch *next;
static cl_icd_dispatch layer;
static const char *words;

static bool is(const char *word) {
    size_t length = strlen(word);
    for (const char *at = words; (at = strstr(at, word)); at += length)
        if ((at == words || at[-1] == ' ') && (at[length] == ' ' || !at[length])) return true;
    return false;
}

// ---- what is said -------------------------------------------------------------------------------

static cl_int answer(const void *value, size_t bytes, size_t size, void *out, size_t *size_ret) {
    if (size_ret) *size_ret = bytes;
    if (out && size < bytes) return CL_INVALID_VALUE;
    if (out) memcpy(out, value, bytes);
    return CL_SUCCESS;
}
#define ANSWER(type, value)                                                                        \
    do {                                                                                           \
        type x_ = (value);                                                                         \
        return answer(&x_, sizeof x_, size, out, size_ret);                                        \
    } while (0)
#define ANSWER_TEXT(text) return answer(text, sizeof(text), size, out, size_ret)

// Devices that are not there: they have a name and a type, and for the rest answer as the one that
// is.
enum { CROWD = 5, HORDE = 70, CROWDED_PLATFORMS = 20 };
static const cl_device_type crowd[CROWD] = {CL_DEVICE_TYPE_CPU, CL_DEVICE_TYPE_CUSTOM,
                                            CL_DEVICE_TYPE_GPU, CL_DEVICE_TYPE_ACCELERATOR,
                                            CL_DEVICE_TYPE_GPU | CL_DEVICE_TYPE_DEFAULT};
static char figure[HORDE]; // their handles are its places
static cl_device_id real;

// Its number; -1: it is there.
static int figure_of(cl_device_id device) {
    for (int i = 0; i < HORDE; i++)
        if ((char *)device == &figure[i]) return i;
    return -1;
}

static cl_int CL_API_CALL platform_ids(cl_uint room, cl_platform_id *list, cl_uint *count) {
    cl_platform_id one;
    if (!is("crowd")) return next->clGetPlatformIDs(room, list, count);
    cl_int status = next->clGetPlatformIDs(1, &one, NULL);
    for (cl_uint i = 0; status == CL_SUCCESS && list && i < room && i < CROWDED_PLATFORMS; i++)
        list[i] = one;
    if (count) *count = CROWDED_PLATFORMS;
    return status;
}

static cl_int CL_API_CALL device_ids(cl_platform_id platform, cl_device_type type, cl_uint room,
                                     cl_device_id *list, cl_uint *count) {
    cl_uint figures = is("crowd") ? CROWD : HORDE;
    if (!is("crowd") && !is("horde"))
        return next->clGetDeviceIDs(platform, type, room, list, count);
    cl_int status = next->clGetDeviceIDs(platform, type, 1, &real, NULL);
    for (cl_uint i = 0; list && i < room && i <= figures; i++)
        list[i] = i < figures ? (cl_device_id)(void *)&figure[i] : real;
    if (count) *count = figures + 1;
    return status;
}

static cl_int CL_API_CALL device_info(cl_device_id device, cl_device_info what, size_t size,
                                      void *out, size_t *size_ret) {
    int number = figure_of(device);
    if (number >= 0 && what == CL_DEVICE_TYPE) ANSWER(cl_device_type, crowd[number % CROWD]);
    if (number >= 0 && what == CL_DEVICE_NAME) {
        char name[] = "figure 00";
        name[7] = (char)('0' + number / 10), name[8] = (char)('0' + number % 10);
        ANSWER_TEXT(name);
    }
    if (number >= 0) device = real;
    if (what == CL_DEVICE_NAME) ANSWER_TEXT("  a device behind a layer ");
    if (what == CL_DRIVER_VERSION && is("updated")) ANSWER_TEXT("another version");
    if (what == CL_DEVICE_VERSION && is("old")) ANSWER_TEXT("OpenCL 1.1 of long ago");
    if (what == CL_DEVICE_PROFILE && is("embedded")) ANSWER_TEXT("EMBEDDED_PROFILE");
    if (what == CL_DEVICE_COMPILER_AVAILABLE && is("compilerless")) ANSWER(cl_bool, CL_FALSE);
    if (what == CL_DEVICE_AVAILABLE && is("absent")) ANSWER(cl_bool, CL_FALSE);
    if (is("gpu")) {
        if (what == CL_DEVICE_TYPE) ANSWER(cl_device_type, CL_DEVICE_TYPE_GPU);
        if (what == CL_DEVICE_EXECUTION_CAPABILITIES)
            ANSWER(cl_device_exec_capabilities, CL_EXEC_KERNEL);
        if (what == CL_DEVICE_SINGLE_FP_CONFIG)
            ANSWER(cl_device_fp_config, CL_FP_INF_NAN | CL_FP_ROUND_TO_NEAREST);
    }
    if (is("narrow") || is("boundless")) {
        size_t sizes[3] = {is("narrow") ? 48 : 0, 4096, 4096};
        if (what == CL_DEVICE_MAX_WORK_ITEM_SIZES)
            return answer(sizes, sizeof sizes, size, out, size_ret);
        if (what == CL_DEVICE_MAX_WORK_GROUP_SIZE) ANSWER(size_t, 4096);
    }
    if (what == CL_DEVICE_NATIVE_VECTOR_WIDTH_FLOAT && (is("lean") || is("fat")))
        ANSWER(cl_uint, is("lean") ? 4 : 16);
    if (what == CL_DEVICE_MAX_PARAMETER_SIZE && is("brief")) ANSWER(size_t, 68);
    if (what == CL_DEVICE_MAX_PARAMETER_SIZE && is("terse")) ANSWER(size_t, 67);
    if (is("small")) {
        if (what == CL_DEVICE_MAX_MEM_ALLOC_SIZE) ANSWER(cl_ulong, SMALL_ALLOCATION);
        if (what == CL_DEVICE_MAX_WORK_GROUP_SIZE) ANSWER(size_t, SMALL_GROUP);
        if (what == CL_DEVICE_MEM_BASE_ADDR_ALIGN) ANSWER(cl_uint, 8 * SMALL_ALIGNMENT);
    }
    return next->clGetDeviceInfo(device, what, size, out, size_ret);
}

// ---- what is refused ----------------------------------------------------------------------------

static cl_context CL_API_CALL create_context(const cl_context_properties *properties,
                                             cl_uint devices, const cl_device_id *device,
                                             void(CL_CALLBACK *notify)(const char *, const void *,
                                                                       size_t, void *),
                                             void *user, cl_int *status) {
    if (figure_of(device[0]) < 0)
        return next->clCreateContext(properties, devices, device, notify, user, status);
    if (status) *status = CL_INVALID_DEVICE;
    return NULL;
}

static cl_mem CL_API_CALL create_buffer(cl_context context, cl_mem_flags flags, size_t size,
                                        void *host, cl_int *status) {
    static atomic_size_t taken;
    cl_int refusal = CL_SUCCESS;
    if (is("small") && size > SMALL_ALLOCATION) refusal = CL_INVALID_BUFFER_SIZE;
    if (is("unpinned") && flags & CL_MEM_ALLOC_HOST_PTR) refusal = CL_OUT_OF_RESOURCES;
    if (is("full") && atomic_fetch_add(&taken, size) + size > ALL_MEMORY)
        refusal = CL_MEM_OBJECT_ALLOCATION_FAILURE;
    if (refusal == CL_SUCCESS) return next->clCreateBuffer(context, flags, size, host, status);
    if (status) *status = refusal;
    return NULL;
}

enum { MOST_PARTS = 256 };
static cl_mem part[MOST_PARTS]; // sub-buffers, in the order in which they were made
static int parts;

static cl_mem CL_API_CALL create_sub_buffer(cl_mem buffer, cl_mem_flags flags,
                                            cl_buffer_create_type type, const void *info,
                                            cl_int *status) {
    const cl_buffer_region *region = info;
    if (is("small") && region->origin % SMALL_ALIGNMENT != 0) {
        if (status) *status = CL_MISALIGNED_SUB_BUFFER_OFFSET;
        return NULL;
    }
    cl_mem made = next->clCreateSubBuffer(buffer, flags, type, info, status);
    if (made && parts < MOST_PARTS) part[parts++] = made;
    return made;
}

static cl_int CL_API_CALL release_memory(cl_mem object) {
    int at = parts;
    while (at > 0 && part[at - 1] != object) at--;
    if (at > 0 && at < parts && is("fragile")) abort();
    if (at > 0) memmove(&part[at - 1], &part[at], (size_t)(parts-- - at) * sizeof *part);
    return next->clReleaseMemObject(object);
}

static cl_int CL_API_CALL build_program(cl_program program, cl_uint devices,
                                        const cl_device_id *device, const char *options,
                                        void(CL_CALLBACK *notify)(cl_program, void *), void *user) {
    if (is("gpu") && options && strstr(options, "correctly-rounded"))
        return CL_INVALID_BUILD_OPTIONS;
    return next->clBuildProgram(program, devices, device, options, notify, user);
}

static cl_program CL_API_CALL program_of_binary(cl_context context, cl_uint devices,
                                                const cl_device_id *device, const size_t *length,
                                                const unsigned char **binary, cl_int *binary_status,
                                                cl_int *status) {
    if (!is("forgetful"))
        return next->clCreateProgramWithBinary(context, devices, device, length, binary,
                                               binary_status, status);
    if (binary_status) *binary_status = CL_INVALID_BINARY;
    if (status) *status = CL_INVALID_BINARY;
    return NULL;
}

// ---- what is out of order -----------------------------------------------------------------------

enum { MOST_QUEUES = 16, MOST_WAITS = 1024 };

static struct {
    cl_command_queue queue;
    cl_event last; // of its newest command
} chains[MOST_QUEUES];

static cl_command_queue CL_API_CALL create_queue(cl_context context, cl_device_id device,
                                                 cl_command_queue_properties properties,
                                                 cl_int *status) {
    if (!is("unordered")) return next->clCreateCommandQueue(context, device, properties, status);
    cl_command_queue queue = next->clCreateCommandQueue(
        context, device, properties | CL_QUEUE_OUT_OF_ORDER_EXEC_MODE_ENABLE, status);
    int i = 0;
    while (i < MOST_QUEUES && chains[i].queue) i++;
    if (queue && i < MOST_QUEUES) chains[i].queue = queue;
    return queue;
}

static cl_int CL_API_CALL release_queue(cl_command_queue queue) {
    for (int i = 0; i < MOST_QUEUES; i++) {
        if (chains[i].queue != queue) continue;
        if (chains[i].last) next->clReleaseEvent(chains[i].last);
        chains[i].queue = NULL, chains[i].last = NULL;
    }
    return next->clReleaseCommandQueue(queue);
}

// What a command is enqueued with: the caller's events, and in an out-of-order queue the one
// before.
typedef struct chain_link {
    cl_event *last, own, list[MOST_WAITS + 1];
    cl_uint waits;
    const cl_event *wait;
    cl_event *event;
} chain_link;

static void begin_link(chain_link *l, cl_command_queue queue, cl_uint waits, const cl_event *wait,
                       cl_event *event) {
    l->last = NULL, l->own = NULL;
    l->waits = waits, l->wait = wait, l->event = event;
    for (int i = 0; i < MOST_QUEUES; i++)
        if (chains[i].queue == queue) l->last = &chains[i].last;
    if (!l->last || waits > MOST_WAITS) return;
    if (waits) memcpy(l->list, wait, waits * sizeof *wait);
    if (*l->last) l->list[l->waits++] = *l->last;
    l->wait = l->waits ? l->list : NULL;
    l->event = &l->own;
}

static cl_int end_link(chain_link *l, cl_int status, cl_event *event) {
    if (status != CL_SUCCESS || !l->own) return status;
    if (*l->last) next->clReleaseEvent(*l->last);
    *l->last = l->own;
    if (event && next->clRetainEvent(l->own) == CL_SUCCESS) *event = l->own;
    return status;
}

// The call that enqueues names bound.waits, bound.wait and bound.event.
#define LINKED(queue, call)                                                                        \
    do {                                                                                           \
        chain_link bound;                                                                          \
        begin_link(&bound, queue, waits, wait, event);                                             \
        return end_link(&bound, next->call, event);                                                \
    } while (0)

// ---- what is late -------------------------------------------------------------------------------

static void CL_CALLBACK sleep_a_while(void *microseconds) {
    usleep(*(unsigned *)microseconds);
}

// It holds up the command behind it. The delays are the same in each run.
static void delay(cl_command_queue queue, cl_uint waits, const cl_event *wait) {
    static atomic_uint state;
    if (!is("slow")) return;
    unsigned x = atomic_fetch_add(&state, 1) * 2654435761u;
    unsigned microseconds = (x >> 20) % 4 == 0 ? 3000 : (x >> 22) % 300;
    chain_link bound;
    begin_link(&bound, queue, waits, wait, NULL);
    end_link(&bound,
             next->clEnqueueNativeKernel(queue, sleep_a_while, &microseconds, sizeof microseconds,
                                         0, NULL, NULL, bound.waits, bound.wait, bound.event),
             NULL);
}

static cl_int CL_API_CALL native_kernel(cl_command_queue queue, void(CL_CALLBACK *function)(void *),
                                        void *arguments, size_t size, cl_uint objects,
                                        const cl_mem *object, const void **location, cl_uint waits,
                                        const cl_event *wait, cl_event *event) {
    if (is("gpu")) return CL_INVALID_OPERATION;
    delay(queue, waits, wait);
    LINKED(queue, clEnqueueNativeKernel(queue, function, arguments, size, objects, object, location,
                                        bound.waits, bound.wait, bound.event));
}

static cl_int CL_API_CALL launch(cl_command_queue queue, cl_kernel kernel, cl_uint dims,
                                 const size_t *offset, const size_t *global, const size_t *local,
                                 cl_uint waits, const cl_event *wait, cl_event *event) {
    if (is("small") && local && local[0] > SMALL_GROUP) return CL_INVALID_WORK_GROUP_SIZE;
    delay(queue, waits, wait);
    LINKED(queue, clEnqueueNDRangeKernel(queue, kernel, dims, offset, global, local, bound.waits,
                                         bound.wait, bound.event));
}

static cl_int CL_API_CALL read_buffer(cl_command_queue queue, cl_mem buffer, cl_bool blocking,
                                      size_t offset, size_t size, void *to, cl_uint waits,
                                      const cl_event *wait, cl_event *event) {
    delay(queue, waits, wait);
    LINKED(queue, clEnqueueReadBuffer(queue, buffer, blocking, offset, size, to, bound.waits,
                                      bound.wait, bound.event));
}

static cl_int CL_API_CALL write_buffer(cl_command_queue queue, cl_mem buffer, cl_bool blocking,
                                       size_t offset, size_t size, const void *from, cl_uint waits,
                                       const cl_event *wait, cl_event *event) {
    delay(queue, waits, wait);
    LINKED(queue, clEnqueueWriteBuffer(queue, buffer, blocking, offset, size, from, bound.waits,
                                       bound.wait, bound.event));
}

static cl_int CL_API_CALL copy_buffer(cl_command_queue queue, cl_mem from, cl_mem to,
                                      size_t from_at, size_t to_at, size_t size, cl_uint waits,
                                      const cl_event *wait, cl_event *event) {
    delay(queue, waits, wait);
    LINKED(queue, clEnqueueCopyBuffer(queue, from, to, from_at, to_at, size, bound.waits,
                                      bound.wait, bound.event));
}

static cl_int CL_API_CALL fill_buffer(cl_command_queue queue, cl_mem buffer, const void *pattern,
                                      size_t pattern_size, size_t offset, size_t size,
                                      cl_uint waits, const cl_event *wait, cl_event *event) {
    delay(queue, waits, wait);
    LINKED(queue, clEnqueueFillBuffer(queue, buffer, pattern, pattern_size, offset, size,
                                      bound.waits, bound.wait, bound.event));
}

static cl_int CL_API_CALL marker(cl_command_queue queue, cl_uint waits, const cl_event *wait,
                                 cl_event *event) {
    LINKED(queue, clEnqueueMarkerWithWaitList(queue, bound.waits, bound.wait, bound.event));
}

// ---- the loader's side --------------------------------------------------------------------------

CL_API_ENTRY cl_int CL_API_CALL clGetLayerInfo(cl_layer_info what, size_t size, void *out,
                                               size_t *size_ret) {
    if (what == CL_LAYER_API_VERSION) ANSWER(cl_layer_api_version, CL_LAYER_API_VERSION_100);
    if (what == CL_LAYER_NAME) ANSWER_TEXT("brim test layer");
    return CL_INVALID_VALUE;
}

CL_API_ENTRY cl_int CL_API_CALL clInitLayer(cl_uint entries, const cl_icd_dispatch *target,
                                            cl_uint *entries_ret,
                                            const cl_icd_dispatch **dispatch_ret) {
    cl_uint known = sizeof layer / sizeof layer.clGetPlatformIDs;
    if (entries < known) known = entries;
    memcpy(&layer, target, known * sizeof layer.clGetPlatformIDs);
    next = target;
    words = getenv("BRIM_TEST_LAYER");
    if (!words) words = "";
    layer.clGetPlatformIDs = platform_ids;
    layer.clGetDeviceIDs = device_ids;
    layer.clGetDeviceInfo = device_info;
    layer.clCreateContext = create_context;
    layer.clCreateBuffer = create_buffer;
    layer.clCreateSubBuffer = create_sub_buffer;
    layer.clReleaseMemObject = release_memory;
    layer.clBuildProgram = build_program;
    layer.clCreateProgramWithBinary = program_of_binary;
    layer.clEnqueueNativeKernel = native_kernel;
    layer.clEnqueueNDRangeKernel = launch;
    layer.clEnqueueReadBuffer = read_buffer;
    layer.clEnqueueWriteBuffer = write_buffer;
    layer.clEnqueueCopyBuffer = copy_buffer;
    layer.clEnqueueFillBuffer = fill_buffer;
    layer.clEnqueueMarkerWithWaitList = marker;
    layer.clCreateCommandQueue = create_queue;
    layer.clReleaseCommandQueue = release_queue;
    *entries_ret = known;
    *dispatch_ret = &layer;
    return CL_SUCCESS;
}
