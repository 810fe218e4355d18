#include "tests/graph_check.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "core/alloc.h"
#include "core/philox.h"
#include "graph/pass_recompute.h"
#include "graph/passes.h"
#include "tests/node_check.h"
#include "tests/shared_modules.h"

const device_settings graph_setups[GRAPH_SETUPS] = {
    {.poison = true},
    {.poison = true, .own_products = true},
    {.poison = true, .vec = 1, .group = 64},
    {.poison = true, .vec = 4, .group = 256, .own_products = true},
};

enum { MICRO_BATCHES = 4, CHAIN_OPERANDS = 24 };

typedef struct checking {
    harness *h;
    const recipe *r;
    graph_tally *tally;
    char *why; // "" as long as all is right
    brim_error err;
    recipe_graph made;
    leaf_values leaves[MICRO_BATCHES];
    int micro_batches;
    bool *all;
    harness_results first, second;
} checking;

static void complain(checking *c, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void complain(checking *c, const char *format, ...) {
    if (*c->why) return;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(c->why, GRAPH_WHY, format, arguments);
    va_end(arguments);
}

// Passes -----------------------------------------------------------------------------------------

static void choose_recomputed(const brim_graph *g, bool *recompute, void *user) {
    const recipe *r = user;
    for (value_id v = 0; v < g->values; v++)
        recompute[v] = philox_at((uint64_t)r->recompute, 8, (uint64_t)v).v[0] % 2;
}

static void note_ops(checking *c) {
    bool seen[OP_COUNT] = {false};
    const brim_graph *g = c->made.graph;
    for (node_id n = 0; n < g->nodes; n++) seen[g->node[n].op] = true;
    seen[OP_FUSED] = c->r->fused;
    for (int op = 0; op < OP_COUNT; op++) c->tally->of_op[op] += seen[op];
    c->tally->nodes += c->made.graph->nodes;
}

// Each node by itself ----------------------------------------------------------------------------

static void take_difference(const node_difference *d, void *user) {
    char text[GRAPH_WHY - 60];
    node_difference_print(d, text, sizeof text);
    complain(user, "%s", text);
}

static void check_nodes(checking *c, int micro_batch) {
    node_check check = {.graph = c->made.graph,
                        .leaves = &c->leaves[micro_batch],
                        .of = c->first.of,
                        .values = c->first.values,
                        .later_micro_batch = micro_batch > 0,
                        .long_sums = true,
                        .differs = take_difference,
                        .user = c};
    node_check_run(&check, &c->err);
    c->tally->elements += check.elements;
    c->tally->loose += check.loose;
    c->tally->not_finite += check.not_finite;
    for (int op = 0; op < OP_COUNT; op++)
        c->tally->worst[op] = fmax(c->tally->worst[op], check.worst[op]);
}

// What accumulators hold after a micro-batch is what the next one starts from.
static void carry_accumulators(checking *c, leaf_values *to) {
    const brim_graph *g = c->made.graph;
    for (node_id n = 0; n < g->nodes; n++) {
        const graph_node *node = &g->node[n];
        if (node->op != OP_ACCUMULATE || !c->first.of[node->first_output]) continue;
        const graph_value *sum = &g->value[node->first_output];
        harness_to_numbers(sum->dtype, c->first.of[node->first_output], to->of[node->input[0]],
                           shape_elements(&sum->shape));
    }
}

// As many micro-batches as have been fed, and a look at the last of them.
static void run_apart(checking *c, int micro_batches) {
    harness_options options = {.micro_batches = micro_batches};
    harness_results_free(&c->first);
    harness_run(c->h, c->made.graph, c->leaves, c->all, &options, &c->first, &c->err);
    c->tally->runs++;
    if (failed(&c->err)) return;
    check_nodes(c, micro_batches - 1);
    if (micro_batches < c->micro_batches) carry_accumulators(c, &c->leaves[micro_batches]);
}

// The same bits ----------------------------------------------------------------------------------

// What a value, or a variable after its update, was in the first run.
static const void *first_of(const checking *c, value_id v) {
    const graph_value *value = &c->made.graph->value[v];
    if (!role_is_variable(value->role)) return c->first.of[v];
    return value->update >= 0 ? c->first.of[value->update] : NULL;
}

static void compare_runs(checking *c) {
    const brim_graph *g = c->made.graph;
    for (value_id v = 0; v < g->values; v++) {
        const graph_value *value = &g->value[v];
        const void *before = c->made.end[v] ? first_of(c, v) : NULL;
        if (!before) continue;
        if (c->second.of[v] && node_check_same_bits(value->dtype, before, c->second.of[v],
                                                    shape_elements(&value->shape)))
            continue;
        const char *op =
            value->producer < 0 ? value->name : op_table[g->node[value->producer].op].name;
        complain(c, "value %d (%s) has other bits when chains are fused and storages used again", v,
                 op);
    }
}

static void run_together(checking *c) {
    harness_options options = {.fuse = c->r->fused,
                               .micro_batches = c->micro_batches,
                               .recompute = c->r->recompute ? choose_recomputed : NULL,
                               .user = (void *)c->r};
    harness_run(c->h, c->made.graph, c->leaves, c->made.end, &options, &c->second, &c->err);
    c->tally->runs++;
    if (!failed(&c->err)) compare_runs(c);
}

// All of it --------------------------------------------------------------------------------------

static void prepare(checking *c) {
    const brim_graph *g = c->made.graph;
    c->all = brim_calloc_array((size_t)g->values, sizeof *c->all, &c->err);
    for (value_id v = 0; c->all && v < g->values; v++) c->all[v] = g->value[v].role == ROLE_RESULT;
    for (int m = 0; m < c->micro_batches && !failed(&c->err); m++)
        c->leaves[m] = recipe_fill(c->r, g, m, &c->err);
}

static void finish(checking *c) {
    harness_results_free(&c->first);
    harness_results_free(&c->second);
    for (int m = 0; m < c->micro_batches; m++) leaf_values_free(&c->leaves[m]);
    free(c->all);
    recipe_graph_free(&c->made);
}

graph_verdict graph_check(harness *h, const recipe *r, graph_tally *tally, char why[GRAPH_WHY]) {
    checking c = {.h = h,
                  .r = r,
                  .tally = tally,
                  .why = why,
                  .micro_batches = r->training ? 1 + (int)r->more_micro_batches : 1};
    *why = '\0';
    if (c.micro_batches > MICRO_BATCHES || recipe_build(r, &c.made, &c.err)) {
        snprintf(why, GRAPH_WHY, "%.500s", c.err.text);
        return GRAPH_REFUSED;
    }
    tally->graphs++;
    note_ops(&c);
    prepare(&c);
    for (int m = 1; m <= c.micro_batches && !failed(&c.err); m++) run_apart(&c, m);
    if (!failed(&c.err)) run_together(&c);
    if (failed(&c.err)) complain(&c, "%.500s", c.err.text);
    finish(&c);
    return *why ? GRAPH_WRONG : GRAPH_RIGHT;
}

// A backend that loads nothing.
static brim_status note_kernels(backend_device *device, const program *p, loaded_program **out,
                                brim_error *err) {
    (void)device, (void)out;
    shared_modules_expect(p);
    return brim_fail(err, BRIM_UNSUPPORTED, "kernels were noted");
}

int graph_check_expect(harness *h, const recipe *r) {
    static graph_tally unused;
    char why[GRAPH_WHY] = "";
    const backend *real = h->backend;
    backend noting = *real;
    noting.load = note_kernels;
    checking c = {.h = h, .r = r, .tally = &unused, .why = why};
    c.micro_batches = r->training ? 1 + (int)r->more_micro_batches : 1;
    if (recipe_build(r, &c.made, &c.err)) return 0;
    prepare(&c);
    h->backend = &noting;
    harness_options options = {.micro_batches = c.micro_batches};
    if (!failed(&c.err)) harness_run(h, c.made.graph, c.leaves, c.all, &options, &c.first, &c.err);
    c.err = (brim_error){0};
    int before = shared_modules_expected();
    run_together(&c);
    h->backend = real;
    finish(&c);
    return shared_modules_expected() - before;
}
