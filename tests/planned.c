#include "tests/planned.h"

#include <stdlib.h>
#include <string.h>
#include "graph/pass_recompute.h"
#include "graph/passes.h"
#include "tests/test_graph.h"

static int64_t some_workspace(const brim_graph *g, node_id n, void *user) {
    (void)user;
    return g->node[n].op == OP_SUM ? 100 + n : 0;
}

static brim_graph *replace(brim_graph *old, brim_graph *new) {
    brim_graph_free(old);
    return new;
}

static brim_graph *recomputed(const brim_graph *g, void (*choose)(const brim_graph *, bool *),
                              brim_error *err) {
    bool *chosen = choose ? calloc((size_t)g->values, sizeof *chosen) : NULL;
    if (choose) choose(g, chosen);
    brim_graph *made = pass_recompute(g, chosen, err);
    free(chosen);
    return made;
}

void planned_make(planned *p, brim_graph *g, int micro_batches, bool fuse, brim_error *err) {
    planned_make_chosen(p, g, micro_batches, fuse, NULL, err);
}

void planned_make_chosen(planned *p, brim_graph *g, int micro_batches, bool fuse,
                         void (*recompute)(const brim_graph *, bool *), brim_error *err) {
    *p = (planned){.request = {.alignment = 64, .workspace = some_workspace}};
    g = replace(g, pass_prune(g, err));
    if (g) g = replace(g, pass_densify(g, err));
    if (g) pass_sections(g, micro_batches, err);
    if (g) g = replace(g, recomputed(g, recompute, err));
    if (g) g = replace(g, pass_fuse(g, fuse, 8, err));
    p->g = g;
    ASSERT_FINE(*err);
    graph_schedule_make(p->g, &p->schedule, err);
    graph_layout_make(p->g, &p->schedule, &p->layout, err);
    ASSERT_FINE(*err);
}

void planned_place(planned *p, brim_error *err) {
    memory_plan_free(&p->plan);
    memory_plan_make(p->g, &p->layout, &p->schedule, &p->request, &p->plan, err);
}

void planned_free(planned *p) {
    memory_plan_free(&p->plan);
    graph_layout_free(&p->layout);
    graph_schedule_free(&p->schedule);
    brim_graph_free(p->g);
}

value_id planned_storage(const planned *p, const char *name) {
    for (value_id v = 0; v < p->g->values; v++)
        if (p->g->value[v].name && strcmp(p->g->value[v].name, name) == 0)
            return p->layout.of[v].storage;
    ck_abort_msg("no value is named %s", name);
}

int planned_position(const planned *p, op_id op, int nth) {
    for (int32_t i = 0; i < p->schedule.count; i++)
        if (p->g->node[p->schedule.order[i]].op == op && nth-- == 0) return i;
    ck_abort_msg("no such node");
}

const graph_node *planned_node(const planned *p, op_id op, int nth) {
    for (node_id n = 0; n < p->g->nodes; n++)
        if (p->g->node[n].op == op && nth-- == 0) return &p->g->node[n];
    ck_abort_msg("no such node");
}

int planned_parts(const planned *p) {
    const graph_node *concat = planned_node(p, OP_CONCAT, 0);
    int placed = 0;
    for (int i = 0; i < concat->inputs; i++)
        placed |=
            (p->layout.of[concat->input[i]].storage == p->layout.of[concat->first_output].storage)
            << i;
    return placed;
}

void planned_small_step(planned *p, int micro_batches, brim_error *err) {
    brim_graph *g = brim_graph_create(err);
    brim_value x = brim_input(g, "x", BRIM_F32, 8, 16);
    brim_value w[2], gradient[2];
    w[0] = brim_parameter(g, "w0", ((brim_init){BRIM_NORMAL, 1}), 16, 32);
    w[1] = brim_parameter(g, "w1", ((brim_init){BRIM_NORMAL, 1}), 32, 16);
    brim_value h = brim_relu(brim_matmul(x, w[0]));
    brim_value y = brim_matmul(h, w[1]);
    g->phase = PHASE_BACKWARD;
    gradient[1] = brim_matmul_t(h, true, y, false);
    gradient[0] = brim_matmul_t(x, true, brim_matmul_t(y, false, w[1], true), false);
    g->phase = PHASE_UPDATE;
    for (int i = 0; i < 2; i++) {
        char name[20];
        shape s = g->value[w[i].id].shape;
        if (micro_batches > 1) {
            snprintf(name, sizeof name, "g%d", i);
            value_id sum = graph_leaf(g, ROLE_ACCUMULATOR, BRIM_F32, &s, name);
            gradient[i] = graph_op(g, OP_ACCUMULATE,
                                   (brim_value[]){graph_value_of(g, sum), gradient[i]}, 2, NULL);
        }
        snprintf(name, sizeof name, "m%d", i);
        value_id m = graph_leaf(g, ROLE_STATE, BRIM_F32, &s, name);
        brim_attr attr = {.optimizer = {.beta1 = 0.9f}};
        graph_op(g, OP_SGD,
                 (brim_value[]){w[i], graph_value_of(g, m), gradient[i],
                                graph_control(g, CONTROL_LR), graph_control(g, CONTROL_LR),
                                graph_control(g, CONTROL_BIAS1)},
                 6, &attr);
    }
    planned_make(p, g, micro_batches, true, err);
}

brim_value packed_attention(brim_graph *g, brim_value *part) {
    brim_value x = brim_input(g, "x", BRIM_F32, 2, 5, 24);
    brim_value packed = brim_relu(x);
    for (int i = 0; i < 3; i++) part[i] = brim_reshape(brim_slice(packed, 2, 8 * i, 8), 2, 5, 2, 4);
    return brim_attention(part[0], part[1], part[2], NULL);
}
