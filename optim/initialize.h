// Starting values of parameters.
#ifndef BRIM_OPTIM_INITIALIZE_H
#define BRIM_OPTIM_INITIALIZE_H

#include <brim/graph.h>

// Fills out from the seed and the parameter's name alone.
void initialize_parameter(float *out, size_t count, brim_init init, uint64_t seed,
                          const char *name);

#endif
