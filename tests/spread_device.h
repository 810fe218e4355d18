// A device whose programs are spread over its queues (spread_program.h) as they are loaded.
//
//   1. spread_device_open(&s, "cuda:0", &settings, seed, &device, &err);   use s.front as its
//   backend
//   2. s.drop = n;      leaves out, of the next program, the n-th of the waits that matter
//   3. s.front.close(device)
#ifndef BRIM_TESTS_SPREAD_DEVICE_H
#define BRIM_TESTS_SPREAD_DEVICE_H

#include "backends/backend.h"

// One at a time. It stays where it is: the backend's functions find it again.
typedef struct spread_device {
    const backend *real;
    backend front;
    uint32_t seed;
    int32_t drop;                      // -1: none
    void (*dropped)(queue_id awaited); // NULL, or told the queue of the record not waited for
    // Of the programs loaded so far:
    int32_t queues[DEVICE_QUEUES]; // records
    int32_t waits;
    int32_t matter;     // waits without which the last one is wrong
    brim_error verdict; // of the verifier over the program that lacks a wait
} spread_device;

brim_status spread_device_open(spread_device *s, const char *name, const device_settings *settings,
                               uint32_t seed, backend_device **device, brim_error *err);

#endif
