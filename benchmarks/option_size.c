#include "benchmarks/option_size.h"

#include <stdlib.h>

int64_t parse_size(const char *text, const char *name, int64_t least, int64_t most,
                   struct argp_state *state) {
    char *end;
    long long value = strtoll(text, &end, 10);
    if (end == text || *end || value < least || value > most)
        argp_error(state, "--%s is \"%s\"; expected a number from %lld to %lld", name, text,
                   (long long)least, (long long)most);
    return value;
}
