// The driver itself, devices, and their primary contexts.
#include "internal.h"

#include <stdio.h>
#include <string.h>

enum { MOST_DEVICES = 16, UNITS = 4, SHARED_BYTES = 48 << 10 };

static object *primary[MOST_DEVICES];
static _Thread_local object *current;

object *current_context(void) {
    return current;
}

static bool is_device(call_scope *scope, CUdevice device) {
    if (device >= 0 && device < settings()->devices) return true;
    cuda_on_cpu_complain(scope->name, "there is no device %d of %lld", device,
                         (long long)settings()->devices);
    return false;
}

// ---- the driver ---------------------------------------------------------------------------------

CUDA_ON_CPU_API CUresult cuInit(unsigned flags) {
    CALL("cuInit", "%u", flags);
    if (flags) REFUSE(CUDA_ERROR_INVALID_VALUE, "flags %u", flags);
    calls_started();
    RETURN(settings()->devices ? CUDA_SUCCESS : CUDA_ERROR_NO_DEVICE);
}

CUDA_ON_CPU_API CUresult cuDriverGetVersion(int *out) {
    CALL("cuDriverGetVersion", "%s", "");
    *out = (int)settings()->driver;
    RETURN(CUDA_SUCCESS);
}

// NVIDIA's libraries, the real NVRTC among them, ask their driver for functions of no public
// interface, and do without where it has none. No call of ours: it is not counted.
CUDA_ON_CPU_API CUresult cuGetExportTable(const void **out, const CUuuid *id) {
    (void)id;
    *out = NULL;
    return CUDA_ERROR_NOT_FOUND;
}

typedef struct status_text {
    CUresult status;
    const char *name, *text;
} status_text;

#define STATUS(name, text)                                                                         \
    { name, #name, text }
static const status_text statuses[] = {
    STATUS(CUDA_SUCCESS, "no error"),
    STATUS(CUDA_ERROR_INVALID_VALUE, "invalid argument"),
    STATUS(CUDA_ERROR_OUT_OF_MEMORY, "out of memory"),
    STATUS(CUDA_ERROR_NOT_INITIALIZED, "initialization error"),
    STATUS(CUDA_ERROR_NO_DEVICE, "no CUDA-capable device is detected"),
    STATUS(CUDA_ERROR_INVALID_DEVICE, "invalid device ordinal"),
    STATUS(CUDA_ERROR_INVALID_IMAGE, "device kernel image is invalid"),
    STATUS(CUDA_ERROR_INVALID_CONTEXT, "invalid device context"),
    STATUS(CUDA_ERROR_ECC_UNCORRECTABLE, "uncorrectable ECC error encountered"),
    STATUS(CUDA_ERROR_INVALID_HANDLE, "invalid resource handle"),
    STATUS(CUDA_ERROR_NOT_FOUND, "named symbol not found"),
    STATUS(CUDA_ERROR_NOT_READY, "device not ready"),
    STATUS(CUDA_ERROR_ILLEGAL_ADDRESS, "an illegal memory access was encountered"),
    STATUS(CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES, "too many resources requested for launch"),
    STATUS(CUDA_ERROR_LAUNCH_TIMEOUT, "the launch timed out and was terminated"),
    STATUS(CUDA_ERROR_MISALIGNED_ADDRESS, "misaligned address"),
    STATUS(CUDA_ERROR_LAUNCH_FAILED, "unspecified launch failure"),
    STATUS(CUDA_ERROR_UNKNOWN, "unknown error"),
};

static const status_text *text_of(CUresult status) {
    for (size_t i = 0; i < sizeof statuses / sizeof *statuses; i++)
        if (statuses[i].status == status) return &statuses[i];
    return NULL;
}

CUDA_ON_CPU_API CUresult cuGetErrorName(CUresult status, const char **out) {
    CALL("cuGetErrorName", "%d", (int)status);
    const status_text *text = text_of(status);
    *out = text ? text->name : NULL;
    RETURN(text ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE);
}

CUDA_ON_CPU_API CUresult cuGetErrorString(CUresult status, const char **out) {
    CALL("cuGetErrorString", "%d", (int)status);
    const status_text *text = text_of(status);
    *out = text ? text->text : NULL;
    RETURN(text ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE);
}

// ---- devices ------------------------------------------------------------------------------------

CUDA_ON_CPU_API CUresult cuDeviceGetCount(int *out) {
    CALL("cuDeviceGetCount", "%s", "");
    *out = (int)settings()->devices;
    RETURN(CUDA_SUCCESS);
}

CUDA_ON_CPU_API CUresult cuDeviceGet(CUdevice *out, int index) {
    CALL("cuDeviceGet", "%d", index);
    if (!is_device(&scope, index)) RETURN(CUDA_ERROR_INVALID_DEVICE);
    *out = index;
    RETURN(CUDA_SUCCESS);
}

CUDA_ON_CPU_API CUresult cuDeviceGetName(char *out, int size, CUdevice device) {
    CALL("cuDeviceGetName", "%d, %d", size, device);
    if (!is_device(&scope, device)) RETURN(CUDA_ERROR_INVALID_DEVICE);
    snprintf(out, (size_t)size, "CUDA on the CPU, for tests (%d)", device);
    RETURN(CUDA_SUCCESS);
}

CUDA_ON_CPU_API CUresult cuDeviceTotalMem_v2(size_t *out, CUdevice device) {
    CALL("cuDeviceTotalMem", "%d", device);
    if (!is_device(&scope, device)) RETURN(CUDA_ERROR_INVALID_DEVICE);
    *out = (size_t)settings()->memory;
    RETURN(CUDA_SUCCESS);
}

CUDA_ON_CPU_API CUresult cuDeviceGetAttribute(int *out, CUdevice_attribute what, CUdevice device) {
    CALL("cuDeviceGetAttribute", "%d, %d", (int)what, device);
    if (!is_device(&scope, device)) RETURN(CUDA_ERROR_INVALID_DEVICE);
    const int values[][2] = {
        {CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, (int)settings()->capability / 10},
        {CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR, (int)settings()->capability % 10},
        {CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK, SHARED_BYTES},
        {CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK, MOST_THREADS},
        {CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT, UNITS},
        {CU_DEVICE_ATTRIBUTE_WARP_SIZE, WARP},
    };
    for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
        if (values[i][0] != (int)what) continue;
        *out = values[i][1];
        RETURN(CUDA_SUCCESS);
    }
    REFUSE(CUDA_ERROR_INVALID_VALUE, "attribute %d is not played here", (int)what);
}

// ---- contexts -----------------------------------------------------------------------------------

CUDA_ON_CPU_API CUresult cuDevicePrimaryCtxRetain(CUcontext *out, CUdevice device) {
    CALL("cuDevicePrimaryCtxRetain", "%d", device);
    if (!is_device(&scope, device)) RETURN(CUDA_ERROR_INVALID_DEVICE);
    if (settings()->overhead > settings()->memory) RETURN(CUDA_ERROR_OUT_OF_MEMORY);
    object *context = primary[device];
    if (!context) {
        context = primary[device] = object_create(OBJECT_CONTEXT, NULL);
        context->device = device;
        memory_note(context);
    }
    context->references++;
    *out = object_handle(context);
    RETURN(CUDA_SUCCESS);
}

CUDA_ON_CPU_API CUresult cuDevicePrimaryCtxRelease_v2(CUdevice device) {
    CALL("cuDevicePrimaryCtxRelease", "%d", device);
    if (!is_device(&scope, device)) RETURN(CUDA_ERROR_INVALID_DEVICE);
    object *context = primary[device];
    if (!context) REFUSE(CUDA_ERROR_INVALID_CONTEXT, "it is not retained");
    if (--context->references > 0) RETURN(CUDA_SUCCESS);
    // The driver would free what is left; who leaves something has lost track of it.
    context->alive = false;
    primary[device] = NULL;
    const char *left = objects_left_in(context);
    if (*left) REFUSE(CUDA_ERROR_INVALID_CONTEXT, "the context is released with %s in it", left);
    RETURN(CUDA_SUCCESS);
}

CUDA_ON_CPU_API CUresult cuCtxGetCurrent(CUcontext *out) {
    CALL("cuCtxGetCurrent", "%s", "");
    *out = current && current->alive ? object_handle(current) : NULL;
    RETURN(CUDA_SUCCESS);
}

CUDA_ON_CPU_API CUresult cuCtxSetCurrent(CUcontext handle) {
    CALL("cuCtxSetCurrent", "%p", (void *)handle);
    object *context = handle ? object_find(&scope, OBJECT_CONTEXT, handle) : NULL;
    if (handle && !context) RETURN(CUDA_ERROR_INVALID_CONTEXT);
    current = context;
    RETURN(CUDA_SUCCESS);
}
