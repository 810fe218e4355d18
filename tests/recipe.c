#include "tests/recipe.h"

#include <stdlib.h>
#include <string.h>
#include "autograd/autograd.h"
#include "core/alloc.h"
#include "core/dtype.h"
#include "graph/passes.h"
#include "optim/training_graph.h"
#include "tests/op_case_builders.h"

#define STEP(name, operands, extents, ...)                                                         \
    static brim_value make_##name(const brim_value *x, const int64_t *n) {                         \
        (void)x, (void)n;                                                                          \
        return __VA_ARGS__;                                                                        \
    }
#include "tests/recipe_steps.def"
#undef STEP

const recipe_row recipe_rows[STEP_COUNT] = {
#define STEP(name, operands, extents, ...) {#name, operands, extents, #__VA_ARGS__, make_##name},
#include "tests/recipe_steps.def"
#undef STEP
};

// Steps ------------------------------------------------------------------------------------------

static bool is_leaf(const recipe_step *s) {
    return s->kind == STEP_input || s->kind == STEP_parameter;
}

static brim_value make_leaf(const recipe_step *s, int index, brim_graph *g) {
    char name[16];
    snprintf(name, sizeof name, "%c%d", s->kind == STEP_input ? 'x' : 'p', index);
    int rank = (int)s->n[LEAF_RANK];
    const int64_t *dims = s->n + LEAF_EXTENTS;
    if (s->kind == STEP_parameter)
        return brim_parameter_dims(g, name, (brim_init){BRIM_NORMAL, 1}, rank, dims);
    return brim_input_dims(g, name, (brim_dtype)s->n[LEAF_DTYPE], rank, dims);
}

brim_value recipe_make_step(const recipe *r, int i, brim_graph *g, const brim_value *value) {
    const recipe_step *s = &r->step[i];
    if (is_leaf(s)) return make_leaf(s, i, g);
    brim_value x[RECIPE_OPERANDS];
    for (int k = 0; k < recipe_rows[s->kind].operands; k++) x[k] = value[s->x[k]];
    return recipe_rows[s->kind].make(x, s->n);
}

static void mark_read(const recipe *r, bool *read) {
    memset(read, false, RECIPE_STEPS * sizeof *read);
    for (int i = 0; i < r->steps; i++)
        for (int k = 0; k < recipe_rows[r->step[i].kind].operands; k++)
            read[r->step[i].x[k]] = true;
}

// The sum of a value's elements, each with a factor of its own.
static brim_value weighted(brim_graph *g, brim_value x, int index) {
    char name[16];
    if (x.id < 0) return GRAPH_INVALID;
    shape s = g->value[x.id].shape;
    snprintf(name, sizeof name, "c%d", index);
    brim_value factors = brim_input_dims(g, name, BRIM_F32, s.rank, s.dim);
    return brim_sum(brim_mul(brim_cast(x, BRIM_F32), factors), NULL, 0, false);
}

static brim_value make_steps(const recipe *r, brim_graph *g, brim_value *value) {
    bool read[RECIPE_STEPS];
    brim_value loss = {0};
    mark_read(r, read);
    for (int i = 0; i < r->steps && !failed(g->err); i++)
        value[i] = recipe_make_step(r, i, g, value);
    for (int i = 0; i < r->steps && !failed(g->err); i++) {
        if (read[i]) continue;
        brim_value part = weighted(g, value[i], i);
        loss = loss.graph ? brim_add(loss, part) : part;
    }
    return loss;
}

// Plain recipes ----------------------------------------------------------------------------------

static void differentiate(const recipe *r, recipe_graph *made, const brim_value *value) {
    brim_graph *g = made->graph;
    value_id wrt[RECIPE_STEPS];
    int step[RECIPE_STEPS], count = 0;
    brim_value gradient[RECIPE_STEPS];
    for (int i = 0; i < r->steps; i++) {
        if (!is_leaf(&r->step[i]) || !dtype_is_float(brim_value_dtype(value[i]))) continue;
        made->leaf[i] = value[i].id;
        step[count] = i;
        wrt[count++] = value[i].id;
    }
    brim_value one = brim_constant(g, 1);
    g->phase = PHASE_BACKWARD;
    autograd_differentiate(g, made->loss, one, wrt, count, gradient, g->err);
    for (int k = 0; k < count && !failed(g->err); k++) made->gradient[step[k]] = gradient[k].id;
}

static void build_plain(const recipe *r, recipe_graph *made, brim_error *err) {
    brim_value value[RECIPE_STEPS];
    brim_graph *g = made->graph = brim_graph_create(err);
    if (!g) return;
    made->loss = make_steps(r, g, value);
    if (!failed(err)) differentiate(r, made, value);
    made->end = brim_calloc_array((size_t)g->values, sizeof *made->end, err);
    if (failed(err)) return;
    for (int i = 0; i < r->steps; i++) {
        made->end[value[i].id] = true;
        if (made->gradient[i] >= 0) made->end[made->gradient[i]] = true;
    }
    made->end[made->loss.id] = true;
    for (value_id v = 0; v < g->values; v++) made->end[v] &= g->value[v].role == ROLE_RESULT;
}

// Training steps ---------------------------------------------------------------------------------

static brim_loss build_loss(brim_graph *g, int64_t batch, int64_t length, void *user) {
    (void)batch, (void)length;
    brim_value value[RECIPE_STEPS];
    // So that there always is a parameter that the loss depends on.
    brim_value anchor = brim_parameter(g, "anchor", ((brim_init){BRIM_NORMAL, 1}), 3);
    brim_value sum = brim_sum(brim_square(anchor), NULL, 0, false);
    brim_value loss = make_steps(user, g, value);
    return (brim_loss){brim_add(loss, sum), brim_constant(g, 4)};
}

static void replace(recipe_graph *made, brim_graph *next) {
    brim_graph_free(made->graph);
    made->graph = next;
}

static void build_step(const recipe *r, recipe_graph *made, brim_error *err) {
    brim_trainer_options given = {
        .batch = 1,
        .accumulate = 1 + r->more_micro_batches,
        .precision = (brim_precision)r->precision,
        .optimizer = {.kind = r->sgd ? BRIM_SGD : BRIM_ADAMW,
                      .momentum = 0.5f,
                      .weight_decay = 0.125f,
                      .clip = r->clip ? 0.25f : 0,
                      .states = r->q8 && !r->sgd ? BRIM_STATES_Q8 : BRIM_STATES_F32}};
    brim_trainer_options options = training_options(&given, err);
    if (!failed(err)) made->graph = training_graph(build_loss, (void *)r, &options, err);
    if (r->copies && !failed(err)) {
        replace(made, pass_prune(made->graph, err));
        if (!failed(err)) replace(made, pass_compute_copies(made->graph, NULL, err));
    }
    brim_graph *g = made->graph;
    if (failed(err)) return;
    made->end = brim_calloc_array((size_t)g->values, sizeof *made->end, err);
    for (int32_t i = 0; made->end && i < g->results; i++) {
        made->end[g->result[i]] = true;
        g->value[g->result[i]].name = NULL; // a run gives its own
    }
    g->results = 0;
    for (value_id v = 0; made->end && v < g->values; v++)
        made->end[v] |= role_is_variable(g->value[v].role) && g->value[v].role != ROLE_ACCUMULATOR;
}

// Both -------------------------------------------------------------------------------------------

brim_status recipe_build(const recipe *r, recipe_graph *out, brim_error *err) {
    *out = (recipe_graph){0};
    for (int i = 0; i < RECIPE_STEPS; i++) out->leaf[i] = out->gradient[i] = -1;
    if (r->steps < 1) return brim_fail(err, BRIM_ARGUMENT, "a recipe without steps");
    (r->training ? build_step : build_plain)(r, out, err);
    if (failed(err)) recipe_graph_free(out);
    return err->status;
}

void recipe_graph_free(recipe_graph *made) {
    brim_graph_free(made->graph);
    free(made->end);
    *made = (recipe_graph){0};
}

// Numbers ----------------------------------------------------------------------------------------

static bool ends_with(const char *name, const char *end) {
    size_t n = strlen(name), m = strlen(end);
    return n >= m && strcmp(name + n - m, end) == 0;
}

// By name, so that a step has the same numbers whatever the passes made of it.
static int number_of(const char *name) {
    uint32_t hash = 2166136261u; // FNV-1a
    for (; *name; name++) hash = (hash ^ (uint8_t)*name) * 16777619u;
    return (int)(hash % 1000003);
}

// What the optimizer makes of its own leaves is never negative where a root is taken of it.
static op_case_leaf leaf_of(const recipe *r, const graph_value *value) {
    const char *name = value->name;
    op_case_leaf leaf = {.role = value->role,
                         .dtype = value->dtype,
                         .shape = value->shape,
                         .number = number_of(name)};
    char *rest;
    long step = strtol(name + 1, &rest, 10);
    bool of_step = (*name == 'x' || *name == 'p') && rest != name + 1;
    if (of_step && (!*rest || value->role == ROLE_COPY) && step < r->steps) {
        leaf.fill = (op_case_fill_kind)r->step[step].n[LEAF_FILL];
        leaf.argument = (double)r->step[step].n[LEAF_ARGUMENT];
        leaf.number = (int)step;
    } else if (value->role == ROLE_STATE && value->dtype == BRIM_I32) {
        leaf.fill = OP_CASE_FILL_BELOW;
        leaf.argument = INT32_MAX;
    } else if (value->role == ROLE_STATE && !ends_with(name, "/m")) {
        leaf.fill = OP_CASE_FILL_POSITIVE;
    } else {
        leaf.fill = OP_CASE_FILL_UNIT;
    }
    return leaf;
}

leaf_values recipe_fill(const recipe *r, const brim_graph *g, int micro_batch, brim_error *err) {
    leaf_values leaves = leaf_values_make(g, NULL, 1, err);
    for (value_id v = 0; v < g->values && !failed(err); v++) {
        const graph_value *value = &g->value[v];
        if (value->role == ROLE_RESULT) continue;
        if (value->role == ROLE_CONTROL) {
            if (value->control == CONTROL_MICRO) leaves.of[v][0] = micro_batch;
            if (value->control == CONTROL_LOSS_SCALE) leaves.of[v][0] = 8; // f16 overflows late
            continue;
        }
        op_case_leaf leaf = leaf_of(r, value);
        int64_t micro = role_is_variable(value->role) ? 0 : micro_batch;
        op_case_fill(&leaf, (uint32_t)(r->seed * 16 + micro), leaves.of[v]);
    }
    return leaves;
}
