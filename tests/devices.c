#include "tests/devices.h"

#include <stdio.h>
#include <string.h>
#include "backends/backend.h"
#include "tests/skips.h"

typedef struct device_row {
    const char *backend, *device;
    skip_id missing;
} device_row;

static const device_row rows[DEVICES_UNDER_TEST] = {
    {"opencl", "opencl:0", SKIP_no_opencl_device},
    {"cuda", "cuda:0", SKIP_no_cuda_device},
};
static const char *only; // NULL: all

bool devices_restrict(const char *name) {
    for (int i = 0; i < DEVICES_UNDER_TEST; i++)
        if (strcmp(rows[i].backend, name) == 0) only = rows[i].backend;
    return only != NULL;
}

bool device_wanted(const char *device) {
    return !only || strncmp(device, only, strlen(only)) == 0;
}

static bool is_here(const device_row *row) {
    char why[512];
    for (int i = 0; backend_list[i]; i++)
        if (strcmp(backend_list[i]->name, row->backend) == 0)
            return backend_list[i]->count(why, sizeof why) > 0;
    return false;
}

const char *device_under_test(int index) {
    if (!device_wanted(rows[index].device)) return NULL;
    if (is_here(&rows[index])) return rows[index].device;
    skip(rows[index].missing);
    return NULL;
}

const char *any_device_under_test(void) {
    const device_row *first = NULL;
    for (int i = 0; i < DEVICES_UNDER_TEST; i++) {
        if (!device_wanted(rows[i].device)) continue;
        if (is_here(&rows[i])) return rows[i].device;
        if (!first) first = &rows[i];
    }
    skip(first->missing);
    return NULL;
}
