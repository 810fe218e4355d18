// What a device and the machine around it do, measured. Plans are compared by it.
#ifndef BRIM_OPTIM_MEASURE_H
#define BRIM_OPTIM_MEASURE_H

#include <brim/device.h>
#include "backends/backend.h"

// Rates of the device of that name (as backend_open takes it), measured once in about a second and
// then kept in the kernel cache, by device and driver. The device is opened beside any other handle
// on it. `usual` gives what is not measured, and all of it where nothing is kept and less than
// MEASURE_BYTES of device memory may be taken (device_bytes; 0: no limit). Disks are not (0).
enum { MEASURE_BYTES = 129 << 20 };
brim_status measure_rates(const char *device, const brim_rates *usual, int64_t device_bytes,
                          brim_rates *out, brim_error *err);

// Of a file in that folder: written and read once, 64 MiB.
brim_status measure_disk(const char *folder, brim_rates *out, brim_error *err);

#endif
