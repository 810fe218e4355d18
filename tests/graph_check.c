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

// Differences ------------------------------------------------------------------------------------

typedef struct differences {
    recipe_graph made;
    leaf_values leaves;
    oracle *oracle;
    brim_error err;
} differences;

// The loss where a leaf is moved by `step` times `direction`.
static double loss_at(differences *d, value_id leaf, const double *direction, double step) {
    oracle_tensor *x = &d->oracle->value[leaf];
    for (int64_t i = 0; i < x->count; i++) x->data[i] = d->leaves.of[leaf][i] + step * direction[i];
    node_id last = d->made.graph->value[d->made.loss.id].producer;
    for (node_id n = 0; n <= last; n++) oracle_run_node(d->oracle, n, &d->err);
    return d->oracle->value[d->made.loss.id].data[0];
}

// The derivative along a direction by the five-point rule with steps of h, whose error is of the
// fourth order.
static double difference(differences *d, value_id leaf, const double *direction, double h) {
    double far = loss_at(d, leaf, direction, 2 * h) - loss_at(d, leaf, direction, -2 * h);
    double near = loss_at(d, leaf, direction, h) - loss_at(d, leaf, direction, -h);
    return (8 * near - far) / (12 * h);
}

// How far the slopes on the two sides are apart, in steps of h: what of it does not grow with the
// step is a kink.
static double bend(differences *d, value_id leaf, const double *direction, double h) {
    double middle = loss_at(d, leaf, direction, 0);
    return (loss_at(d, leaf, direction, h) + loss_at(d, leaf, direction, -h) - 2 * middle) / h;
}

// Where there is a kink, there is nothing to compare with.
static void check_leaf(differences *d, value_id leaf, value_id gradient, graph_tally *tally,
                       char *why) {
    oracle_tensor *x = &d->oracle->value[leaf];
    op_case_leaf along = {.dtype = BRIM_F32, .shape = x->shape, .number = 70};
    double *direction = brim_calloc_array((size_t)x->count, sizeof *direction, &d->err);
    if (!direction) return;
    op_case_fill(&along, 9, direction);
    double product = 0, size = 0;
    for (int64_t i = 0; gradient >= 0 && i < x->count; i++) {
        product += d->oracle->value[gradient].data[i] * direction[i];
        size += fabs(d->oracle->value[gradient].data[i] * direction[i]);
    }
    const double h = 1e-5;
    double measured = difference(d, leaf, direction, h),
           wide = difference(d, leaf, direction, 4 * h);
    double kink = (4 * bend(d, leaf, direction, h) - bend(d, leaf, direction, 4 * h)) / 3;
    double allowed = 1e-6 * size + 1e-7 * (1 + fabs(loss_at(d, leaf, direction, 0)));
    if (!(fabs(wide - measured) <= allowed && fabs(kink) <= allowed))
        tally->kinks++;
    else if (fabs(product - measured) <= allowed)
        tally->differences++;
    else if (!*why)
        snprintf(why, GRAPH_WHY,
                 "leaf %d (%s): the gradient gives %.12g, differences %.12g (allowed: %.3g)", leaf,
                 d->made.graph->value[leaf].name, product, measured, allowed);
    free(direction);
}

graph_verdict graph_check_differences(const recipe *r, graph_tally *tally, char why[GRAPH_WHY]) {
    differences d = {0};
    *why = '\0';
    // To an integer is a step, which the oracle takes only when it rounds.
    for (int i = 0; i < r->steps; i++)
        if (r->step[i].kind == STEP_cast && r->step[i].n[0] == BRIM_I32) return GRAPH_RIGHT;
    if (r->training || recipe_build(r, &d.made, &d.err)) return GRAPH_REFUSED;
    d.leaves = recipe_fill(r, d.made.graph, 0, &d.err);
    d.oracle = oracle_create(d.made.graph, &d.err);
    if (!failed(&d.err)) leaf_values_set(&d.leaves, d.oracle, &d.err);
    if (!failed(&d.err)) oracle_run(d.oracle, &d.err);
    for (int i = 0; i < r->steps && !failed(&d.err); i++)
        if (d.made.leaf[i] >= 0) check_leaf(&d, d.made.leaf[i], d.made.gradient[i], tally, why);
    if (failed(&d.err)) snprintf(why, GRAPH_WHY, "%.500s", d.err.text);
    oracle_free(d.oracle);
    leaf_values_free(&d.leaves);
    recipe_graph_free(&d.made);
    return *why ? GRAPH_WRONG : GRAPH_RIGHT;
}
