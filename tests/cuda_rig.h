// CUDA on the CPU as a program would use it: the driver's calls, and kernels compiled by NVRTC's.
// Each file that includes this has its own.
//
//   1. start and finish as a checked fixture
//   2. if (!open_rig("seed=1")) return;      no cuda_on_cpu on the library path: skipped
//   3. CUfunction f = compile("name", text, group);  launch(f, grid, group, stream, arguments)
#ifndef BRIM_TESTS_CUDA_RIG_H
#define BRIM_TESTS_CUDA_RIG_H

#include <check.h>
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>
#include "backends/cuda/device.h"
#include "tests/cuda_on_cpu/cuda_on_cpu.h"
#include "tests/listener.h"
#include "tests/skips.h"
#include "tests/test_core.h"

enum { STREAMS = 3, SPACE_BYTES = 1 << 16, SPACE_FLOATS = SPACE_BYTES / 4, MODULES = 16 };

static struct {
    cuda_driver cu;
    cuda_compiler nvrtc;
    CUcontext context;
    CUstream stream[STREAMS];
    CUdeviceptr space; // SPACE_BYTES of device memory
    float *pinned;     // as much of the host's
    CUmodule module[MODULES];
    int modules;
    __typeof__(&cuda_on_cpu_configure) configure;
    __typeof__(&cuda_on_cpu_calls) calls;
    __typeof__(&cuda_on_cpu_failed) failed;
    __typeof__(&cuda_on_cpu_alive) alive;
    __typeof__(&cuda_on_cpu_expect) expect;
    __typeof__(&cuda_on_cpu_expected) expected;
} rig;
static brim_error err;

#define CU(call) ck_assert_int_eq(rig.cu.call, CUDA_SUCCESS)

// ---- the rig ------------------------------------------------------------------------------------

static inline void find_extras(void *file) {
    rig.configure = (__typeof__(rig.configure))dlsym(file, "cuda_on_cpu_configure");
    rig.calls = (__typeof__(rig.calls))dlsym(file, "cuda_on_cpu_calls");
    rig.failed = (__typeof__(rig.failed))dlsym(file, "cuda_on_cpu_failed");
    rig.alive = (__typeof__(rig.alive))dlsym(file, "cuda_on_cpu_alive");
    rig.expect = (__typeof__(rig.expect))dlsym(file, "cuda_on_cpu_expect");
    rig.expected = (__typeof__(rig.expected))dlsym(file, "cuda_on_cpu_expected");
}

// False, and the case is skipped, where libcuda is none or NVIDIA's.
static inline bool find_cuda_on_cpu(const char *settings) {
    void *file = dlopen("libcuda.so.1", RTLD_NOW);
    if (file) find_extras(file);
    if (!rig.configure) {
        skip(SKIP_no_cuda_on_cpu);
        return false;
    }
    ck_assert_ptr_null(rig.configure(settings));
    return true;
}

static inline bool open_rig(const char *settings) {
    if (!find_cuda_on_cpu(settings)) return false;
    cuda_driver_open(&rig.cu, &err);
    cuda_compiler_open(&rig.nvrtc, 13000, 89, &err);
    ASSERT_FINE(err);
    CU(device_primary_ctx_retain(&rig.context, 0));
    CU(ctx_set_current(rig.context));
    for (int i = 0; i < STREAMS; i++) CU(stream_create(&rig.stream[i], CU_STREAM_NON_BLOCKING));
    CU(mem_alloc(&rig.space, SPACE_BYTES));
    CU(mem_host_alloc((void **)&rig.pinned, SPACE_BYTES, 0));
    return true;
}

static inline void start(void) {
    memset(&rig, 0, sizeof rig);
    err = (brim_error){0};
}

// Whatever a case left in the device, it can be closed.
static inline void finish(void) {
    if (!rig.context) return;
    for (int i = 0; i < STREAMS; i++) rig.cu.stream_synchronize(rig.stream[i]);
    for (int i = 0; i < rig.modules; i++) rig.cu.module_unload(rig.module[i]);
    rig.cu.mem_free(rig.space);
    rig.cu.mem_free_host(rig.pinned);
    for (int i = 0; i < STREAMS; i++) rig.cu.stream_destroy(rig.stream[i]);
    rig.cu.device_primary_ctx_release(0);
}

// ---- failures -----------------------------------------------------------------------------------

// These fail without an error, since there is another way: what sets the caller's context again, a
// compiler or library of another version, a cached kernel that is compiled again, our own products
// for those that cuBLASLt does not take, host memory that is not pinned; and what is asked on that
// way.
static inline bool has_another_way(const char *call) {
    static const char *const names[] = {
        "cuCtxGetCurrent", "cuCtxSetCurrent",           "cuMemHostAlloc",        "cuModuleLoadData",
        "nvrtcVersion",    "nvrtcGetNumSupportedArchs", "nvrtcGetSupportedArchs"};
    bool found = strncmp(call, "cublasLt", 8) == 0 && strcmp(call, "cublasLtMatmul") != 0;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) found |= !strcmp(names[i], call);
    return found;
}

// ---- kernels ------------------------------------------------------------------------------------

static inline CUfunction compile(const char *name, const char *source, int group) {
    char defines[80];
    snprintf(defines, sizeof defines, "-DGROUP=%d -DVEC=4 -DBRIM_CPU=0 -DALIGNED=1", group);
    cuda_image image;
    cuda_compile(&rig.nvrtc, &(kernel_spec){name, "test.k", source, defines, group}, false, &image,
                 &err);
    ASSERT_FINE(err);
    ck_assert_int_lt(rig.modules, MODULES);
    CUfunction function;
    CU(module_load_data(&rig.module[rig.modules], image.data));
    CU(module_get_function(&function, rig.module[rig.modules++], name));
    free(image.data);
    free(image.log);
    return function;
}

static inline CUresult launch(CUfunction f, unsigned grid, unsigned group, CUstream stream,
                              void **arguments) {
    return rig.cu.launch_kernel(f, grid, 1, 1, group, 1, 1, 0, stream, arguments, NULL);
}

// All of the space, on the host.
static inline const float *read_space(void) {
    CU(memcpy_dtoh_async(rig.pinned, rig.space, SPACE_BYTES, rig.stream[0]));
    CU(stream_synchronize(rig.stream[0]));
    return rig.pinned;
}

// ---- what is said -------------------------------------------------------------------------------

// The call ends with that status, and stderr has that text.
#define ASSERT_REFUSED(call, status, part)                                                         \
    do {                                                                                           \
        char said_[2000];                                                                          \
        listener l_ = listen_to_stderr();                                                          \
        CUresult status_ = rig.cu.call;                                                            \
        heard(l_, said_, sizeof said_);                                                            \
        ck_assert_msg(status_ == (status), "%s: status %d: %s", #call, (int)status_, said_);       \
        ck_assert_msg(strstr(said_, part), "%s: \"%s\" is not in: %s", #call, part, said_);        \
    } while (0)

#endif
