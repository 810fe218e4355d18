// How long a step of a program would take, from numbers alone: its queues as a machine with the
// given rates would work through them.
//
// 1. program_seconds: what each record takes if nothing is in its way
// 2. program_simulate: steps one after another; what a step in the middle of them takes, and what
//    the kernels waited for
//
// Copies to and from the device share the link, and everything that touches host memory shares its
// bandwidth. The device begins a step when it is done with the one before; the host's queues may
// still be at work then. Where the device is the host, its kernels and the host's share the cores.
#ifndef BRIM_BACKENDS_PROGRAM_SIMULATE_H
#define BRIM_BACKENDS_PROGRAM_SIMULATE_H

#include <brim/device.h>
#include "backends/backend.h"
#include "graph/graph.h"

// By record. The graph is the one that the records' nodes are of.
void program_seconds(const program *p, const brim_graph *g, const brim_rates *rates, double *out);

typedef struct simulation {
    double seconds;             // of a step
    double busy[QUEUE_COUNT];   // of it: the queue is at work
    double waited[QUEUE_COUNT]; // of it: kernels stand still for a record of that queue
    double streaming;           // of it: something is on its way to the device or from it
    double hidden;              // of that: kernels run meanwhile
} simulation;

brim_status program_simulate(const program *p, const double *seconds, const brim_rates *rates,
                             const device_traits *traits, simulation *out, brim_error *err);

#endif
