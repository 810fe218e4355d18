// In place of the backend where it was built without CUDA's headers: it has no device, and says
// why.
#include <stdio.h>
#include "backends/backend.h"

#define REASON "this build has no CUDA backend: " BRIM_CUDA_MISSING

static int count_devices(char *why, size_t size) {
    snprintf(why, size, "%s", REASON);
    return 0;
}

static brim_status describe(int index, device_traits *out, brim_error *err) {
    *out = (device_traits){0};
    return brim_fail(err, BRIM_UNSUPPORTED, "device cuda:%d: %s", index, REASON);
}

static brim_status open_device(int index, const device_settings *settings, backend_device **out,
                               brim_error *err) {
    (void)settings;
    *out = NULL;
    return brim_fail(err, BRIM_UNSUPPORTED, "device cuda:%d: %s", index, REASON);
}

// No device is ever open, so nothing else can be called.
const backend cuda_backend = {
    .name = "cuda",
    .count = count_devices,
    .describe = describe,
    .open = open_device,
};
