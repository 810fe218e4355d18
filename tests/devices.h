// The devices that tests run on: one of each backend, where there is one.
#ifndef BRIM_TESTS_DEVICES_H
#define BRIM_TESTS_DEVICES_H

#include <stdbool.h>

enum { DEVICES_UNDER_TEST = 2 };

// From now on only devices of the backend of that name are under test; false where there is no such backend.
bool devices_restrict(const char *name);
// Whether devices of a backend ("opencl", or a device's name, "opencl:0") are under test.
bool device_wanted(const char *device);

// "opencl:0", "cuda:0"; NULL where that one is not under test, or, with the skip recorded, where that
// backend has no device.
const char *device_under_test(int index);
// For tests that run on one device: the first of them that is here; NULL, with the skip recorded.
const char *any_device_under_test(void);

#endif
