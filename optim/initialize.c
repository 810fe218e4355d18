#include "optim/initialize.h"

#include <limits.h>
#include <stdlib.h>
#include "core/alloc.h"
#include "core/philox.h"

// FNV-1a, 64 bit (Fowler, Noll, Vo): names become streams of the generator.
static uint64_t name_stream(const char *name) {
    uint64_t hash = 0xcbf29ce484222325u;
    for (; *name; name++) hash = (hash ^ (unsigned char)*name) * 0x100000001b3u;
    return hash;
}

typedef struct filling {
    float *out;
    size_t count;
    brim_init init;
    uint64_t seed, stream;
} filling;
enum { PIECE = 1 << 16 };

static void fill_piece(void *context, int item) {
    const filling *f = context;
    size_t first = (size_t)item * PIECE, left = f->count - first;
    size_t count = left < PIECE ? left : PIECE;
    float *out = f->out + first;
    switch (f->init.kind) {
    case BRIM_ZEROS:
    case BRIM_ONES:
        for (size_t i = 0; i < count; i++) out[i] = f->init.kind == BRIM_ONES ? 1.0f : 0.0f;
        break;
    case BRIM_NORMAL:
        philox_fill_normal(out, first, count, f->seed, f->stream, 0, f->init.scale);
        break;
    case BRIM_UNIFORM:
        philox_fill_uniform(out, first, count, f->seed, f->stream, -f->init.scale, f->init.scale);
        break;
    }
}

void initialize_parameter(float *out, size_t count, brim_init init, uint64_t seed, const char *name,
                          worker_pool *pool) {
    filling f = {out, count, init, seed, name_stream(name)};
    worker_pool_run(pool, (int)((count + PIECE - 1) / PIECE), fill_piece, &f);
}

brim_status initialize_variables(const compiled *c, const compile_target *target, uint64_t seed,
                                 brim_error *err) {
    if (failed(err)) return err->status;
    const brim_graph *g = c->graph;
    worker_pool *pool = worker_pool_create(worker_pool_cores(INT_MAX), err);
    for (value_id id = 0; id < g->values && !failed(err); id++) {
        const graph_value *v = &g->value[id];
        if (v->role != ROLE_PARAMETER && v->role != ROLE_STATE) continue;
        size_t count = (size_t)shape_elements(&v->shape);
        float *data = brim_calloc_array(count, sizeof *data, err);
        if (!data) break;
        if (v->role == ROLE_PARAMETER)
            initialize_parameter(data, count, v->init, seed, v->name, pool);
        compiled_write_variable(c, target, id, data, err);
        free(data);
    }
    worker_pool_free(pool);
    return err->status;
}
