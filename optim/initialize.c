#include "optim/initialize.h"

#include "core/philox.h"

// FNV-1a, 64 bit (Fowler, Noll, Vo): names become streams of the generator.
static uint64_t name_stream(const char *name) {
    uint64_t hash = 0xcbf29ce484222325u;
    for (; *name; name++) hash = (hash ^ (unsigned char)*name) * 0x100000001b3u;
    return hash;
}

void initialize_parameter(float *out, size_t count, brim_init init, uint64_t seed,
                          const char *name) {
    uint64_t stream = name_stream(name);
    switch (init.kind) {
    case BRIM_ZEROS:
    case BRIM_ONES:
        for (size_t i = 0; i < count; i++) out[i] = init.kind == BRIM_ONES ? 1.0f : 0.0f;
        break;
    case BRIM_NORMAL:
        philox_fill_normal(out, count, seed, stream, 0, init.scale);
        break;
    case BRIM_UNIFORM:
        philox_fill_uniform(out, count, seed, stream, -init.scale, init.scale);
        break;
    }
}
