// How fast updates on the host are beside the machine's memory.
#ifndef BRIM_BENCHMARKS_HOST_UPDATES_H
#define BRIM_BENCHMARKS_HOST_UPDATES_H

#include "benchmarks/report.h"

// Every host kernel whose name contains `filter` (NULL: all), in each variant that this CPU runs,
// on all cores, and in turn with each a memcpy on all cores. `seconds` for each kernel.
void host_updates_measure(double seconds, const char *filter, report *r, brim_error *err);

#endif
