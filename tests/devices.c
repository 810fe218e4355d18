#include "tests/devices.h"

#include <stdio.h>
#include <string.h>
#include "backends/backend.h"
#include "tests/skips.h"

typedef struct device_row { const char *backend, *device; skip_id missing; } device_row;

static const device_row rows[DEVICES_UNDER_TEST] = {
    {"opencl", "opencl:0", SKIP_no_opencl_device},
    {"cuda", "cuda:0", SKIP_no_cuda_device},
};

static int device_count(const char *name) {
    char why[512];
    for (int i = 0; backend_list[i]; i++)
        if (strcmp(backend_list[i]->name, name) == 0) return backend_list[i]->count(why, sizeof why);
    return 0;
}

const char *device_under_test(int index) {
    if (device_count(rows[index].backend) > 0) return rows[index].device;
    skip(rows[index].missing);
    return NULL;
}
