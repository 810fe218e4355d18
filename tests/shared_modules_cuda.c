#include "tests/shared_modules_wraps.h"
#include "backends/cuda/device.h"

int32_t __real_cuda_modules_build(backend_device *d, const kernel_spec *spec, int32_t count,
                                  CUmodule *module, int32_t *module_of, brim_error *err);
int32_t __wrap_cuda_modules_build(backend_device *d, const kernel_spec *spec, int32_t count,
                                  CUmodule *module, int32_t *module_of, brim_error *err);

static __typeof__(&cuModuleUnload) unload_module;

static CUresult CUDAAPI leave_module(CUmodule module) {
    (void)module;
    return CUDA_SUCCESS;
}

static void release_cuda(void *device, void *module) {
    backend_device *d = device;
    CUcontext before;
    brim_error ignored = {0};
    d->cu.module_unload = unload_module;
    if (!cuda_enter(d, &before, &ignored)) return;
    unload_module(module);
    cuda_leave(d, before);
}

static void *build_cuda(void *device, const kernel_spec *spec, brim_error *err) {
    backend_device *d = device;
    CUmodule module = NULL;
    int32_t module_of;
    if (d->cu.module_unload != leave_module) unload_module = d->cu.module_unload;
    __real_cuda_modules_build(d, spec, 1, &module, &module_of, err);
    shared_module_keep(d, module, release_cuda);
    d->cu.module_unload = leave_module;
    return module;
}

int32_t __wrap_cuda_modules_build(backend_device *d, const kernel_spec *spec, int32_t count,
                                  CUmodule *module, int32_t *module_of, brim_error *err) {
    int32_t modules = 0;
    for (int32_t i = 0; i < count && !failed(err); i++) {
        CUmodule made = shared_module_of(d, &spec[i], build_cuda, err);
        if (!made && !failed(err))
            return __real_cuda_modules_build(d, spec, count, module, module_of, err);
        int32_t j = 0;
        while (j < modules && module[j] != made) j++;
        module_of[i] = j;
        if (j == modules) module[modules++] = made;
    }
    return modules;
}
