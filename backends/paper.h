// A device that exists only as numbers. Graphs are planned and lowered for it as for a real one of
// its kind; everything that would run is one clear error.
#ifndef BRIM_BACKENDS_PAPER_H
#define BRIM_BACKENDS_PAPER_H

#include <brim/device.h>
#include "backends/backend.h"

// A card with those rates, driven by CUDA or else by OpenCL. It is in no list: nobody gets it by
// asking for "auto". The rates are copied.
brim_status paper_open(const brim_rates *rates, bool cuda, const backend **out_backend,
                       backend_device **out, brim_error *err);

#endif
