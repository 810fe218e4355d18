// Numbers on the benchmarks' command lines.
#ifndef BRIM_BENCHMARKS_OPTION_SIZE_H
#define BRIM_BENCHMARKS_OPTION_SIZE_H

#include <argp.h>
#include <stdint.h>

// The number that the text of option --NAME is; argp ends the program where it is none, or not
// between least and most.
int64_t parse_size(const char *text, const char *name, int64_t least, int64_t most,
                   struct argp_state *state);

#endif
