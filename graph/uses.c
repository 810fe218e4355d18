#include "graph/uses.h"

#include <stdlib.h>
#include "core/alloc.h"

brim_status graph_uses_make(const brim_graph *g, graph_uses *out, brim_error *err) {
    *out = (graph_uses){0};
    int64_t total = 0;
    for (node_id n = 0; n < g->nodes; n++) total += g->node[n].inputs;
    out->start = brim_calloc_array((size_t)g->values + 1, sizeof *out->start, err);
    out->use = brim_calloc_array((size_t)total, sizeof *out->use, err);
    int64_t *next = brim_calloc_array((size_t)g->values, sizeof *next, err);
    if (!failed(err)) {
        for (node_id n = 0; n < g->nodes; n++)
            for (int32_t i = 0; i < g->node[n].inputs; i++) out->start[g->node[n].input[i] + 1]++;
        for (value_id v = 0; v < g->values; v++) {
            out->start[v + 1] += out->start[v];
            next[v] = out->start[v];
        }
        for (node_id n = 0; n < g->nodes; n++)
            for (int32_t i = 0; i < g->node[n].inputs; i++)
                out->use[next[g->node[n].input[i]]++] = (value_use){n, i};
    }
    free(next);
    if (failed(err)) graph_uses_free(out);
    return err->status;
}

void graph_uses_free(graph_uses *uses) {
    free(uses->start);
    free(uses->use);
    *uses = (graph_uses){0};
}
