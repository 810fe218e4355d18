// What of a recipe can be held against the oracle without a device.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "core/alloc.h"
#include "graph/passes.h"
#include "tests/graph_check.h"

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

typedef struct slopes {
    double product, measured, allowed; // by the gradient, by differences
    bool kink;
} slopes;

static bool agree(const slopes *s) {
    return fabs(s->product - s->measured) <= s->allowed;
}

static slopes slopes_at(differences *d, value_id leaf, value_id gradient, const double *direction) {
    const oracle_tensor *g = gradient < 0 ? NULL : &d->oracle->value[gradient];
    const double h = 1e-5;
    slopes s = {0};
    double size = 0;
    for (int64_t i = 0; g && i < g->count; i++) {
        s.product += g->data[i] * direction[i];
        size += fabs(g->data[i] * direction[i]);
    }
    double wide = difference(d, leaf, direction, 4 * h);
    double kink = (4 * bend(d, leaf, direction, h) - bend(d, leaf, direction, 4 * h)) / 3;
    s.measured = difference(d, leaf, direction, h);
    s.allowed = 1e-6 * size + 1e-7 * (1 + fabs(loss_at(d, leaf, direction, 0)));
    s.kink = !(fabs(wide - s.measured) <= s.allowed && fabs(kink) <= s.allowed);
    return s;
}

// Some choices concern one point alone, as "x where x is not 0" does: there the rule may give
// another slope than all around. A little further on it must not.
static slopes slopes_beside(differences *d, value_id leaf, value_id gradient,
                            const double *direction) {
    for (int64_t i = 0; i < d->oracle->value[leaf].count; i++)
        d->leaves.of[leaf][i] += 3e-4 * direction[i];
    oracle_set(d->oracle, leaf, d->leaves.of[leaf], &d->err);
    oracle_run(d->oracle, &d->err);
    return slopes_at(d, leaf, gradient, direction);
}

// Where there is a kink, there is nothing to compare with.
static void check_leaf(differences *d, value_id leaf, value_id gradient, graph_tally *tally,
                       char *why) {
    const oracle_tensor *x = &d->oracle->value[leaf];
    op_case_leaf along = {.dtype = BRIM_F32, .shape = x->shape, .number = 70};
    double *direction = brim_calloc_array((size_t)x->count, sizeof *direction, &d->err);
    if (!direction) return;
    op_case_fill(&along, 9, direction);
    slopes s = slopes_at(d, leaf, gradient, direction);
    bool right = !s.kink && agree(&s);
    slopes beside = s;
    if (!s.kink && !right) beside = slopes_beside(d, leaf, gradient, direction);
    tally->differences += right;
    tally->kinks += !right && (beside.kink || agree(&beside));
    if (!beside.kink && !agree(&beside) && !*why)
        snprintf(why, GRAPH_WHY,
                 "leaf %d (%s): the gradient gives %.12g, differences %.12g (allowed: %.3g)", leaf,
                 d->made.graph->value[leaf].name, beside.product, beside.measured, beside.allowed);
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

// Precision --------------------------------------------------------------------------------------

typedef struct exact_step {
    recipe_graph made;
    oracle *oracle;
} exact_step;

// A step without any rounding. A compute copy starts as its parameter.
static void run_exactly(const recipe *r, exact_step *s, brim_error *err) {
    if (recipe_build(r, &s->made, err)) return;
    const brim_graph *g = s->made.graph;
    leaf_values leaves = recipe_fill(r, g, 0, err);
    s->oracle = failed(err) ? NULL : oracle_create(g, err);
    if (s->oracle) leaf_values_set(&leaves, s->oracle, err);
    for (value_id v = 0; v < g->values && !failed(err); v++)
        for (value_id p = 0; p < g->values && g->value[v].role == ROLE_COPY; p++)
            if (g->value[p].role == ROLE_PARAMETER && compute_copy_of(g, p) == v)
                oracle_set(s->oracle, v, leaves.of[p], err);
    if (!failed(err)) oracle_run(s->oracle, err);
    leaf_values_free(&leaves);
}

// The variable of that name after the step, or NULL.
static const oracle_tensor *updated(const exact_step *s, value_role role, const char *name) {
    const brim_graph *g = s->made.graph;
    for (value_id v = 0; v < g->values; v++)
        if (g->value[v].role == role && g->value[v].update >= 0 && !strcmp(g->value[v].name, name))
            return &s->oracle->value[g->value[v].update];
    return NULL;
}

static void compare_variables(const exact_step *a, const exact_step *b, char *why) {
    const brim_graph *g = a->made.graph;
    for (value_id v = 0; v < g->values && !*why; v++) {
        const graph_value *value = &g->value[v];
        if (value->role != ROLE_PARAMETER && value->role != ROLE_STATE) continue;
        const oracle_tensor *x = updated(a, value->role, value->name);
        const oracle_tensor *y = updated(b, value->role, value->name);
        if (!x && !y) continue;
        double largest = 0, error = x && y ? 0 : INFINITY;
        for (int64_t i = 0; x && y && i < x->count; i++) {
            largest = fmax(largest, fabs(x->data[i]));
            if (!(x->data[i] == y->data[i] || (isnan(x->data[i]) && isnan(y->data[i]))))
                error = fmax(error, fabs(x->data[i] - y->data[i]));
        }
        if (error > 1e-9 * (1 + largest))
            snprintf(why, GRAPH_WHY, "%s is off by %.3g, of %.3g, with 16 bits and exact numbers",
                     value->name, error, largest);
    }
}

graph_verdict graph_check_precision(const recipe *r, graph_tally *tally, char why[GRAPH_WHY]) {
    brim_error err = {0};
    exact_step low = {0}, full = {0};
    recipe of_low = *r, of_full = *r;
    *why = '\0';
    // Codes of states would make a step of the smallest difference.
    if (!r->training || !r->precision || r->q8) return GRAPH_RIGHT;
    of_low.more_micro_batches = of_full.more_micro_batches = 0;
    of_full.precision = of_full.copies = 0;
    run_exactly(&of_low, &low, &err);
    if (!failed(&err)) run_exactly(&of_full, &full, &err);
    if (failed(&err))
        snprintf(why, GRAPH_WHY, "%.500s", err.text);
    else
        compare_variables(&full, &low, why);
    tally->precisions++;
    oracle_free(low.oracle);
    oracle_free(full.oracle);
    recipe_graph_free(&low.made);
    recipe_graph_free(&full.made);
    return *why ? GRAPH_WRONG : GRAPH_RIGHT;
}
