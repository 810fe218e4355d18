// A device that is not there, for what asks a device only what it is: lowering and planning. Its
// traits are the test's.
#ifndef BRIM_TESTS_STUB_DEVICE_H
#define BRIM_TESTS_STUB_DEVICE_H

#include "backends/backend.h"

struct backend_device {
    device_traits traits;
    bool native;                          // a library multiplies what it can
    int64_t workspace, element_workspace; // bytes that it wants: for a product, for each element
};

static const device_traits *stub_traits(const backend_device *d) {
    return &d->traits;
}

static bool stub_serves(backend_device *d, const matmul_shape *s) {
    return (void)s, d->native;
}

static brim_status stub_workspace(backend_device *d, const matmul_shape *s, int64_t *bytes,
                                  brim_error *err) {
    *bytes = d->workspace + d->element_workspace * s->m * s->n;
    return err->status;
}

static const backend stub_backend = {.name = "none",
                                     .traits = stub_traits,
                                     .matmul_native = stub_serves,
                                     .matmul_workspace = stub_workspace};

#endif
