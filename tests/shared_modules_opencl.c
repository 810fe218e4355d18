#include "tests/shared_modules_wraps.h"

#include <string.h>
#include "backends/opencl/device.h"

cl_program __real_opencl_module_build(backend_device *d, const kernel_spec *spec, brim_error *err);
cl_program __wrap_opencl_module_build(backend_device *d, const kernel_spec *spec, brim_error *err);

static __typeof__(&clReleaseProgram) release_program; // the driver's own

// In the device's table of functions while modules are shared: programs leave theirs alone.
static cl_int CL_API_CALL leave_program(cl_program module) {
    (void)module;
    return CL_SUCCESS;
}

static void release_opencl(void *device, void *module) {
    release_program(module);
    ((backend_device *)device)->cl.clReleaseProgram = release_program;
}

static void *build_opencl(void *device, const kernel_spec *spec, brim_error *err) {
    backend_device *d = device;
    if (d->cl.clReleaseProgram != leave_program) release_program = d->cl.clReleaseProgram;
    d->cl.clReleaseProgram = release_program;
    char options[sizeof d->build_options];
    memcpy(options, d->build_options, sizeof options);
    if (shared_modules_quickly())
        strncat(d->build_options, " -cl-opt-disable",
                sizeof d->build_options - strlen(d->build_options) - 1);
    cl_program module = __real_opencl_module_build(d, spec, err);
    memcpy(d->build_options, options, sizeof options);
    shared_module_keep(d, module, release_opencl);
    d->cl.clReleaseProgram = leave_program;
    return module;
}

cl_program __wrap_opencl_module_build(backend_device *d, const kernel_spec *spec, brim_error *err) {
    cl_program module = shared_module_of(d, spec, build_opencl, err);
    return module || failed(err) ? module : __real_opencl_module_build(d, spec, err);
}
