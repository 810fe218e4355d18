#include "tests/op_case_run.h"

#include <stdlib.h>
#include "core/alloc.h"

static const double control_values[CONTROL_COUNT] = {
    [CONTROL_LR] = 0.015625, [CONTROL_LOSS_SCALE] = 1024, [CONTROL_BIAS1] = 0.5,
    [CONTROL_BIAS2] = 0.25,  [CONTROL_SEED] = 20240520,   [CONTROL_STEP] = 41,
    [CONTROL_MICRO] = 3,
};

static void fill(const brim_graph *g, const op_case_graph *made, value_id v, uint32_t seed,
                 double *out) {
    const graph_value *value = &g->value[v];
    if (value->role == ROLE_CONTROL) {
        *out = control_values[value->control];
        return;
    }
    op_case_leaf leaf = {.dtype = value->dtype, .shape = value->shape, .number = 100 + v};
    for (int i = 0; made && i < made->leaves; i++)
        if (made->x[i].id == v) leaf = made->leaf[i];
    op_case_fill(&leaf, seed, out);
}

leaf_values leaf_values_make(const brim_graph *g, const op_case_graph *made, uint32_t seed,
                             brim_error *err) {
    leaf_values leaves = {brim_calloc_array((size_t)g->values, sizeof(double *), err), g->values};
    for (value_id v = 0; leaves.of && v < g->values; v++) {
        if (g->value[v].role == ROLE_RESULT) continue;
        leaves.of[v] =
            brim_calloc_array((size_t)shape_elements(&g->value[v].shape), sizeof(double), err);
        if (!leaves.of[v]) break;
        fill(g, made, v, seed, leaves.of[v]);
    }
    return leaves;
}

void leaf_values_free(leaf_values *leaves) {
    for (int32_t v = 0; leaves->of && v < leaves->values; v++) free(leaves->of[v]);
    free(leaves->of);
    *leaves = (leaf_values){0};
}

void leaf_values_set(const leaf_values *leaves, oracle *o, brim_error *err) {
    for (value_id v = 0; v < leaves->values; v++)
        if (leaves->of[v]) oracle_set(o, v, leaves->of[v], err);
}
