// Starting values of parameters and optimizer states.
#ifndef BRIM_OPTIM_INITIALIZE_H
#define BRIM_OPTIM_INITIALIZE_H

#include "backends/worker_pool.h"
#include "optim/compiled.h"

// Fills out from the seed and the parameter's name alone, however many threads the pool has.
void initialize_parameter(float *out, size_t count, brim_init init, uint64_t seed, const char *name,
                          worker_pool *pool);

// Writes all parameters, each by its init, and states of zeros.
brim_status initialize_variables(const compiled *c, const compile_target *target, uint64_t seed,
                                 brim_error *err);

#endif
