// Devices that Brim can train on, and why others cannot be used.
//
//   brim_device_info *list = NULL;
//   int rows = brim_device_list(&list, &err);
//   for (int i = 0; i < rows; i++) puts(list[i].id);
//   free(list);
//
// A trainer takes an id ("opencl:1"), a backend's name ("cuda": its first device), "cpu", or "auto"
// (CUDA, then an OpenCL GPU, then an OpenCL CPU).
#ifndef BRIM_DEVICE_H
#define BRIM_DEVICE_H

#include <stdbool.h>
#include <stdint.h>
#include <brim/error.h>
#include <brim/export.h>

#ifdef __cplusplus
extern "C" {
#endif

// A device, or a backend that has none.
typedef struct brim_device_info {
    char id[32];        // "opencl:0"; only "cuda" where that backend is missing
    char backend[16];   // "opencl"
    char problem[1000]; // why it cannot be used; "" where it can: only then is the rest known
    char name[128], driver[128], architecture[32];
    char matmul[128]; // the library for matrix products, with its version; "" for Brim's own kernel
    bool cpu;
    bool exact_f32;                       // division, square root and denormals as IEEE 754 demands
    int32_t vector, group, compute_units; // floats in a kernel's vector; work-items in a group
    int64_t memory_bytes, free_bytes;     // free: -1 where the driver does not tell
} brim_device_info;

// Fills *list with all devices, best first; the caller frees it with free(). Each device is opened
// to see whether that works, so this can take a second. Returns the number of rows.
BRIM_API int brim_device_list(brim_device_info **list, brim_error *err);

// What a planner knows of a machine: bytes, bytes per second, operations per second.
typedef struct brim_rates {
    char name[64];
    int64_t memory_bytes;     // of the device
    int64_t overhead_bytes;   // of it: what context, modules and libraries take beside the arena
    double memory;            // device memory, bytes/s, read and write together
    double matmul_16, matmul_32; // dense products from 16-bit and from f32 operands, operations/s (a multiply-add is two)
    double link_in, link_out, link_both; // host to device, device to host, both at once together; bytes/s
    double host;              // host memory, bytes/s, read and write together
    double disk_read, disk_write; // bytes/s; 0: no disk
    double launch;            // seconds that a kernel costs at least
} brim_rates;

#ifdef __cplusplus
}
#endif
#endif
