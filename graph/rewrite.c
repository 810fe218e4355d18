#include "graph/rewrite.h"

#include <stdlib.h>
#include <string.h>
#include "core/alloc.h"
#include "graph/build.h"

bool rewrite_begin(rewrite *r, const brim_graph *from, brim_error *err) {
    *r = (rewrite){.from = from, .loss = {-1, -1}, .err = err};
    if (failed(err)) return false;
    r->to = brim_graph_create(err);
    r->map = brim_calloc_array((size_t)from->values, sizeof *r->map, err);
    r->stand_in = brim_calloc_array((size_t)from->values, sizeof *r->stand_in, err);
    if (failed(err)) {
        brim_graph_free(r->to);
        free(r->map);
        free(r->stand_in);
        return false;
    }
    for (value_id v = 0; v < from->values; v++) r->map[v] = r->stand_in[v] = -1;
    r->to->training = from->training;
    r->to->dropouts = from->dropouts;
    r->to->phase = from->phase;
    return true;
}

static const char *copy_text(rewrite *r, const char *text) {
    return text ? arena_strdup(r->to->memory, text, r->err) : NULL;
}

void rewrite_leaf(rewrite *r, value_id old) {
    if (failed(r->err)) return;
    graph_value v = r->from->value[old];
    v.name = copy_text(r, v.name);
    v.update = -1; // rewrite_end knows it
    r->map[old] = graph_add_value(r->to, &v);
}

static const chain *copy_chain(rewrite *r, const chain *from) {
    arena *memory = r->to->memory;
    chain *copy = arena_alloc(memory, sizeof *copy, r->err);
    chain_step *step = arena_array(memory, (size_t)from->steps, sizeof *step, r->err);
    int16_t *output = arena_array(memory, (size_t)from->outputs, sizeof *output, r->err);
    if (failed(r->err)) return NULL;
    memcpy(step, from->step, (size_t)from->steps * sizeof *step);
    memcpy(output, from->output, (size_t)from->outputs * sizeof *output);
    *copy = (chain){from->steps, from->outputs, step, output};
    return copy;
}

// Neighbours mostly share their scope.
static const char *copy_scope(rewrite *r, const char *scope) {
    if (!r->new_scope || scope != r->old_scope) {
        r->old_scope = scope;
        r->new_scope = copy_text(r, scope);
    }
    return r->new_scope;
}

value_id rewrite_add(rewrite *r, const graph_node *like, const value_id *inputs, int32_t count,
                     const graph_value *output) {
    brim_graph *g = r->to;
    value_id *input = arena_array(g->memory, (size_t)count, sizeof *input, r->err);
    graph_node node = *like;
    node.scope = copy_scope(r, like->scope);
    if (op_table[node.op].attr == ATTR_CHAIN) node.attr.chain = copy_chain(r, like->attr.chain);
    if (failed(r->err) || !graph_reserve(g, 1, node.outputs)) return -1;
    if (count) memcpy(input, inputs, (size_t)count * sizeof *input);
    node.inputs = count;
    node.input = input;
    node.first_output = g->values;
    for (int32_t j = 0; j < node.outputs; j++) {
        graph_value v = {.dtype = output[j].dtype,
                         .shape = output[j].shape,
                         .role = ROLE_RESULT,
                         .producer = g->nodes,
                         .output = (int8_t)j,
                         .control = -1,
                         .name = copy_text(r, output[j].name),
                         .update = -1,
                         .original = -1};
        g->value[g->values++] = v;
    }
    g->node[g->nodes++] = node;
    return node.first_output;
}

value_id rewrite_add_one(rewrite *r, const graph_node *like, const value_id *inputs, int32_t count,
                         brim_dtype dtype, const shape *s) {
    graph_value output = {.dtype = dtype, .shape = *s};
    return rewrite_add(r, like, inputs, count, &output);
}

void rewrite_copy(rewrite *r, node_id old, const value_id *inputs) {
    const graph_node *node = &r->from->node[old];
    value_id *mapped = NULL;
    if (!inputs) {
        mapped = brim_calloc_array((size_t)node->inputs, sizeof *mapped, r->err);
        if (!mapped) return;
        for (int32_t i = 0; i < node->inputs; i++) mapped[i] = r->map[node->input[i]];
        inputs = mapped;
    }
    value_id first =
        rewrite_add(r, node, inputs, node->inputs, &r->from->value[node->first_output]);
    free(mapped);
    for (int32_t j = 0; j < node->outputs && !failed(r->err); j++)
        r->map[node->first_output + j] = first + j;
}

int32_t rewrite_most_inputs(const brim_graph *g) {
    int32_t most = 0;
    for (node_id n = 0; n < g->nodes; n++)
        if (g->node[n].inputs > most) most = g->node[n].inputs;
    return most;
}

static value_id mapped_loss(const rewrite *r, int part, value_id old) {
    return r->loss[part] >= 0 ? r->loss[part] : old < 0 ? -1 : r->map[old];
}

static void finish(rewrite *r) {
    const brim_graph *from = r->from;
    brim_graph *to = r->to;
    to->loss.sum = mapped_loss(r, 0, from->loss.sum);
    to->loss.count = mapped_loss(r, 1, from->loss.count);
    size_t capacity = 0;
    if (from->results && !brim_grow((void **)&to->result, &capacity, (size_t)from->results,
                                    sizeof *to->result, r->err))
        return;
    to->result_capacity = (int32_t)capacity;
    for (int32_t i = 0; i < from->results; i++) {
        value_id old = from->result[i];
        to->result[to->results++] = r->stand_in[old] >= 0 ? r->stand_in[old] : r->map[old];
    }
    for (value_id v = 0; v < from->values; v++) {
        if (r->map[v] < 0) continue;
        value_id update = from->value[v].update, original = from->value[v].original;
        graph_value *new = &to->value[r->map[v]];
        if (update >= 0) new->update = r->map[update];
        if (original >= 0) new->original = r->map[original];
        new->checkpoint |= from->value[v].checkpoint; // equal values may have become one
    }
}

brim_graph *rewrite_end(rewrite *r, const char *pass) {
    if (!failed(r->err)) finish(r);
    graph_verify(r->to, pass, r->err);
    free(r->map);
    free(r->stand_in);
    if (failed(r->err)) {
        brim_graph_free(r->to);
        return NULL;
    }
    return r->to;
}
