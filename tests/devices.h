// The devices that tests run on: one of each backend, where there is one.
#ifndef BRIM_TESTS_DEVICES_H
#define BRIM_TESTS_DEVICES_H

enum { DEVICES_UNDER_TEST = 2 };

// "opencl:0", "cuda:0"; NULL, with the skip recorded, where that backend has no device.
const char *device_under_test(int index);

#endif
