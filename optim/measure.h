// What a device and the machine around it do, measured. Plans are compared by it.
#ifndef BRIM_OPTIM_MEASURE_H
#define BRIM_OPTIM_MEASURE_H

#include <brim/device.h>
#include "backends/backend.h"

// Rates of the device of that name (as backend_open takes it), measured once in about a second and
// then kept in the kernel cache, by device and driver. The device is opened beside any other handle
// on it and takes at most 300 MiB. `usual` gives what is not measured. Disks are not (0).
brim_status measure_rates(const char *device, const brim_rates *usual, brim_rates *out,
                          brim_error *err);

// Of a file in that folder: written and read once, 64 MiB.
brim_status measure_disk(const char *folder, brim_rates *out, brim_error *err);

#endif
