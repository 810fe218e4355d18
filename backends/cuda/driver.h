// The functions of libcuda and libnvrtc that the backend uses, opened at run time.
//
// Structs are filled by the names that the libraries export: the headers' macros map some names to
// versions that older drivers do not have (cuEventElapsedTime), so each row says its export.
// Signatures are the headers'.
#ifndef BRIM_BACKENDS_CUDA_DRIVER_H
#define BRIM_BACKENDS_CUDA_DRIVER_H

#include <cuda.h>
#include <nvrtc.h>
#include <stdbool.h>
#include "core/dynlib.h"
#include "core/error.h"

// ---- libcuda ------------------------------------------------------------------------------------

// X(field, function of cuda.h, exported symbol)
#define CUDA_FUNCTIONS(X)                                                                          \
    X(init, cuInit, "cuInit")                                                                      \
    X(driver_get_version, cuDriverGetVersion, "cuDriverGetVersion")                                \
    X(get_error_name, cuGetErrorName, "cuGetErrorName")                                            \
    X(get_error_string, cuGetErrorString, "cuGetErrorString")                                      \
    X(device_get_count, cuDeviceGetCount, "cuDeviceGetCount")                                      \
    X(device_get, cuDeviceGet, "cuDeviceGet")                                                      \
    X(device_get_name, cuDeviceGetName, "cuDeviceGetName")                                         \
    X(device_get_attribute, cuDeviceGetAttribute, "cuDeviceGetAttribute")                          \
    X(device_total_mem, cuDeviceTotalMem, "cuDeviceTotalMem_v2")                                   \
    X(device_primary_ctx_retain, cuDevicePrimaryCtxRetain, "cuDevicePrimaryCtxRetain")             \
    X(device_primary_ctx_release, cuDevicePrimaryCtxRelease, "cuDevicePrimaryCtxRelease_v2")       \
    X(ctx_get_current, cuCtxGetCurrent, "cuCtxGetCurrent")                                         \
    X(ctx_set_current, cuCtxSetCurrent, "cuCtxSetCurrent")                                         \
    X(mem_get_info, cuMemGetInfo, "cuMemGetInfo_v2")                                               \
    X(mem_alloc, cuMemAlloc, "cuMemAlloc_v2")                                                      \
    X(mem_free, cuMemFree, "cuMemFree_v2")                                                         \
    X(mem_host_alloc, cuMemHostAlloc, "cuMemHostAlloc")                                            \
    X(mem_free_host, cuMemFreeHost, "cuMemFreeHost")                                               \
    X(memcpy_htod_async, cuMemcpyHtoDAsync, "cuMemcpyHtoDAsync_v2")                                \
    X(memcpy_dtoh_async, cuMemcpyDtoHAsync, "cuMemcpyDtoHAsync_v2")                                \
    X(memcpy_dtod_async, cuMemcpyDtoDAsync, "cuMemcpyDtoDAsync_v2")                                \
    X(memset_d32_async, cuMemsetD32Async, "cuMemsetD32Async")                                      \
    X(module_load_data, cuModuleLoadData, "cuModuleLoadData")                                      \
    X(module_unload, cuModuleUnload, "cuModuleUnload")                                             \
    X(module_get_function, cuModuleGetFunction, "cuModuleGetFunction")                             \
    X(func_get_attribute, cuFuncGetAttribute, "cuFuncGetAttribute")                                \
    X(launch_kernel, cuLaunchKernel, "cuLaunchKernel")                                             \
    X(stream_create, cuStreamCreate, "cuStreamCreate")                                             \
    X(stream_destroy, cuStreamDestroy, "cuStreamDestroy_v2")                                       \
    X(stream_synchronize, cuStreamSynchronize, "cuStreamSynchronize")                              \
    X(stream_wait_event, cuStreamWaitEvent, "cuStreamWaitEvent")                                   \
    X(event_create, cuEventCreate, "cuEventCreate")                                                \
    X(event_destroy, cuEventDestroy, "cuEventDestroy_v2")                                          \
    X(event_record, cuEventRecord, "cuEventRecord")                                                \
    X(event_synchronize, cuEventSynchronize, "cuEventSynchronize")                                 \
    X(event_elapsed_time, cuEventElapsedTime, "cuEventElapsedTime")

typedef struct cuda_driver {
    dynlib library;
#define X(field, function, symbol) __typeof__(&function) field;
    CUDA_FUNCTIONS(X)
#undef X
    // Of CUDA 12.4 and later: NULL in older drivers, and not in older headers.
    CUresult (*func_get_param_info)(CUfunction function, size_t index, size_t *offset,
                                    size_t *bytes);
} cuda_driver;

// Opens libcuda and initialises it; the error says why it cannot be used.
bool cuda_driver_open(cuda_driver *cu, brim_error *err);
void cuda_driver_close(cuda_driver *cu);

// Whether nothing that is asked of the device after that status will succeed.
bool cuda_loses_device(CUresult status);

// True if status is CUDA_SUCCESS; else err says which call failed, with the driver's name and text
// for it.
bool cuda_check(const cuda_driver *cu, CUresult status, const char *call, brim_error *err);

// ---- libnvrtc -----------------------------------------------------------------------------------

#define NVRTC_FUNCTIONS(X)                                                                         \
    X(version, nvrtcVersion)                                                                       \
    X(get_error_string, nvrtcGetErrorString)                                                       \
    X(get_num_supported_archs, nvrtcGetNumSupportedArchs)                                          \
    X(get_supported_archs, nvrtcGetSupportedArchs)                                                 \
    X(create_program, nvrtcCreateProgram)                                                          \
    X(destroy_program, nvrtcDestroyProgram)                                                        \
    X(compile_program, nvrtcCompileProgram)                                                        \
    X(get_ptx_size, nvrtcGetPTXSize)                                                               \
    X(get_ptx, nvrtcGetPTX)                                                                        \
    X(get_cubin_size, nvrtcGetCUBINSize)                                                           \
    X(get_cubin, nvrtcGetCUBIN)                                                                    \
    X(get_program_log_size, nvrtcGetProgramLogSize)                                                \
    X(get_program_log, nvrtcGetProgramLog)

typedef struct cuda_compiler {
    dynlib library;
    int major, minor;      // NVRTC's version
    char architecture[32]; // "sm_89", or "compute_90" where NVRTC is older than the device: PTX for
                           // the driver's compiler
#define X(field, function) __typeof__(&function) field;
    NVRTC_FUNCTIONS(X)
#undef X
} cuda_compiler;

// The NVRTC that suits a driver of that CUDA version (13000; 0: any) and a device of that compute
// capability (89). Version 13 compiles for 7.5 and up, version 12 for older cards, and a driver of
// CUDA 12 cannot load what 13 makes.
bool cuda_compiler_open(cuda_compiler *nvrtc, int driver_version, int capability, brim_error *err);
void cuda_compiler_close(cuda_compiler *nvrtc);

#endif
