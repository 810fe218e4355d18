// How fast updates on the host are beside the machine's memory.
#ifndef BRIM_BENCHMARKS_HOST_UPDATES_H
#define BRIM_BENCHMARKS_HOST_UPDATES_H

#include "benchmarks/report.h"

// Every host kernel whose name contains `filter` (NULL: all), in each variant that this CPU runs,
// on all cores, in turn with memcpy on all cores; minima. Takes `seconds` times the number of
// kernels.
void host_updates_measure(double seconds, const char *filter, report *r, brim_error *err);

#endif
