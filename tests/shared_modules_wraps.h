// What stands between the table of shared kernels and the backends.
#ifndef BRIM_TEST_SHARED_MODULES_WRAPS_H
#define BRIM_TEST_SHARED_MODULES_WRAPS_H

#include "tests/shared_modules.h"

// Compiles one kernel by the backend's own function, and takes care that the module stays.
typedef void *shared_module_builder(void *device, const kernel_spec *spec, brim_error *err);

// The kernel's module; NULL where modules are not shared, or with an error.
void *shared_module_of(void *device, const kernel_spec *spec, shared_module_builder *build,
                       brim_error *err);

bool shared_modules_quickly(void);

// A module that programs leave to us, and what releases it in the end.
void shared_module_keep(void *device, void *module, void (*release)(void *device, void *module));

#endif
