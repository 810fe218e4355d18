// 16-bit compute copies of parameters become variables that the update keeps fresh.
#include <stdio.h>
#include <stdlib.h>
#include "core/alloc.h"
#include "graph/build.h"
#include "graph/passes.h"
#include "graph/rewrite.h"

// The update that also writes the copy; 0 where there is none.
static const op_id with_copy[OP_COUNT] = {
    [OP_ADAMW] = OP_ADAMW_CAST, [OP_ADAMW_Q8] = OP_ADAMW_Q8_CAST, [OP_SGD] = OP_SGD_CAST};
static const brim_dtype copy_types[] = {BRIM_BF16, BRIM_F16};
enum { COPY_TYPES = sizeof copy_types / sizeof *copy_types, NAME_BYTES = GRAPH_NAME_BYTES + 8 };

typedef struct copier {
    rewrite r;
    const brim_graph *owner;
    struct copied {
        bool wanted;
        brim_dtype dtype;
        value_id copy; // the new graph's
    } * of;            // by old id of the parameter
    value_id *inputs;
} copier;

static void copy_name(char name[NAME_BYTES], const graph_value *parameter, brim_dtype dtype) {
    snprintf(name, NAME_BYTES, "%s/%s", parameter->name, brim_dtype_name(dtype));
}

value_id compute_copy_of(const brim_graph *g, value_id parameter) {
    char name[NAME_BYTES];
    value_id copy = -1;
    for (int i = 0; i < COPY_TYPES && copy < 0; i++) {
        copy_name(name, &g->value[parameter], copy_types[i]);
        copy = graph_find_leaf(g, ROLE_COPY, name);
    }
    return copy;
}

// A copy that nobody keeps fresh, or that the owner of the variables lacks, stays a cast.
static bool may_have_copy(const copier *c, value_id parameter, brim_dtype dtype) {
    const brim_graph *g = c->r.from;
    const graph_value *v = &g->value[parameter];
    char name[NAME_BYTES];
    if (v->role != ROLE_PARAMETER || (dtype != BRIM_BF16 && dtype != BRIM_F16)) return false;
    if (v->update >= 0 && !with_copy[g->node[g->value[v->update].producer].op]) return false;
    copy_name(name, v, dtype);
    return !c->owner || graph_find_leaf(c->owner, ROLE_COPY, name) >= 0;
}

// A named value is a result, which a leaf cannot be.
static bool is_plain_cast(const brim_graph *g, const graph_node *node) {
    return node->op == OP_CAST && !g->value[node->first_output].name;
}

static void choose_copies(copier *c) {
    const brim_graph *g = c->r.from;
    for (node_id n = 0; n < g->nodes; n++) {
        const graph_node *node = &g->node[n];
        if (!is_plain_cast(g, node) || c->of[node->input[0]].wanted) continue;
        brim_dtype dtype = g->value[node->first_output].dtype;
        if (!may_have_copy(c, node->input[0], dtype)) continue;
        c->of[node->input[0]] = (struct copied){.wanted = true, .dtype = dtype};
    }
}

static void copy_leaf(copier *c, value_id v) {
    rewrite_leaf(&c->r, v);
    if (!c->of[v].wanted || failed(c->r.err)) return;
    const graph_value *parameter = &c->r.from->value[v];
    char name[NAME_BYTES];
    copy_name(name, parameter, c->of[v].dtype);
    c->of[v].copy = graph_leaf(c->r.to, ROLE_COPY, c->of[v].dtype, &parameter->shape, name);
}

// The same update with the copy as its last variable.
static void copy_update(copier *c, node_id n) {
    const brim_graph *from = c->r.from;
    graph_node node = from->node[n];
    graph_value output[GRAPH_MAX_OUTPUTS];
    value_id copy = c->of[node.input[0]].copy;
    int32_t variables = node.outputs;
    for (int32_t i = 0; i < node.inputs; i++)
        c->inputs[i < variables ? i : i + 1] = c->r.map[node.input[i]];
    c->inputs[variables] = copy;
    for (int32_t j = 0; j < variables; j++) output[j] = from->value[node.first_output + j];
    output[variables] =
        (graph_value){.dtype = c->of[node.input[0]].dtype, .shape = output[0].shape};
    node.op = with_copy[node.op];
    node.outputs++;
    value_id first = rewrite_add(&c->r, &node, c->inputs, node.inputs + 1, output);
    if (failed(c->r.err)) return;
    for (int32_t j = 0; j < variables; j++) c->r.map[node.first_output + j] = first + j;
    c->r.to->value[copy].update = first + variables;
}

static void copy_node(copier *c, node_id n) {
    const brim_graph *g = c->r.from;
    const graph_node *node = &g->node[n];
    if (with_copy[node->op] && c->of[node->input[0]].wanted)
        copy_update(c, n);
    else if (is_plain_cast(g, node) && c->of[node->input[0]].wanted &&
             c->of[node->input[0]].dtype == g->value[node->first_output].dtype)
        c->r.map[node->first_output] = c->of[node->input[0]].copy;
    else
        rewrite_copy(&c->r, n, NULL);
}

brim_graph *pass_compute_copies(const brim_graph *g, const brim_graph *owner, brim_error *err) {
    copier c = {.owner = owner};
    if (!rewrite_begin(&c.r, g, err)) return NULL;
    c.of = brim_calloc_array((size_t)g->values, sizeof *c.of, err);
    c.inputs = brim_calloc_array((size_t)rewrite_most_inputs(g) + 1, sizeof *c.inputs, err);
    if (!failed(err)) choose_copies(&c);
    for (value_id v = 0; v < g->values && !failed(err); v++) {
        node_id n = g->value[v].producer;
        if (n < 0)
            copy_leaf(&c, v);
        else if (g->node[n].first_output == v)
            copy_node(&c, n);
    }
    free(c.of);
    free(c.inputs);
    return rewrite_end(&c.r, "compute copies");
}
