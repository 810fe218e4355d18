// Runs what is put into the queues of an OpenCL device as late as the standard allows, one command
// at a time, in an order of its own choice: only the order within a queue and the events that a
// command waits for bind it. A missing wait becomes a wrong result.
//
//   1. open a device with separate queues;  late_queues_begin(device)
//   2. late_queues_at_random(seed)    or    late_queues_hold(queue)      as often as one likes
//   3. late_queues_end()  after the device was closed
#ifndef BRIM_TESTS_LATE_QUEUES_H
#define BRIM_TESTS_LATE_QUEUES_H

#include "backends/backend.h"

// One device at a time.
void late_queues_begin(backend_device *device);
void late_queues_end(void);

// From now on: any order, as the seed says.
void late_queues_at_random(uint32_t seed);
// From now on: commands of that queue run only when no other one can.
void late_queues_hold(queue_id queue);
// Commands that ran before one that was submitted earlier, since the last call.
int64_t late_queues_overtaken(void);

#endif
