// The order of execution and the lists of readers, against the definitions of both.
#include "graph/layout.h"
#include "graph/passes.h"
#include "graph/uses.h"
#include "sandbox.h"
#include "test_graph.h"
#include "tests/allocations.h"

static value_id root_of(const brim_graph *g, value_id v) {
    while (g->value[v].producer >= 0 && op_is_view(g->node[g->value[v].producer].op))
        v = g->node[g->value[v].producer].input[0];
    return v;
}

static bool is_update(const graph_node *node) {
    return op_table[node->op].family == FAMILY_UPDATE;
}

static bool reads(const brim_graph *g, node_id n, value_id root) {
    const graph_node *node = &g->node[n];
    bool found = false;
    for (int i = 0; i < node->inputs && !op_is_view(node->op); i++)
        found |= root_of(g, node->input[i]) == root;
    return found;
}

static bool others_read(const brim_graph *g, const bool *ran, node_id n, value_id root) {
    for (node_id m = 0; m < g->nodes; m++)
        if (m != n && !ran[m] && reads(g, m, root)) return true;
    return false;
}

// What it reads is there, and what it overwrites nobody reads any more.
static bool is_ready(const brim_graph *g, const bool *ran, node_id n) {
    const graph_node *node = &g->node[n];
    bool ready = !ran[n];
    for (int i = 0; i < node->inputs && ready; i++) {
        node_id producer = g->value[node->input[i]].producer;
        ready &= producer < 0 || ran[producer];
    }
    for (int j = 0; j < node->outputs && is_update(node) && ready; j++)
        ready &= !others_read(g, ran, n, node->input[j]);
    return ready;
}

static int64_t bytes_of(const brim_graph *g, value_id v) {
    return shape_elements(&g->value[v].shape) * (int64_t)brim_dtype_bytes(g->value[v].dtype);
}

// Bytes that die with the node, less those that it makes.
static int64_t gain_of(const brim_graph *g, const bool *ran, node_id n) {
    const graph_node *node = &g->node[n];
    int64_t gain = 0;
    for (int j = 0; j < node->outputs && !op_is_view(node->op) && !is_update(node); j++)
        gain -= bytes_of(g, node->first_output + j);
    for (value_id v = 0; v < g->values; v++)
        if (g->value[v].producer >= 0 && root_of(g, v) == v && reads(g, n, v) &&
            !others_read(g, ran, n, v))
            gain += bytes_of(g, v);
    return gain;
}

static int rank_of(const brim_graph *g, const bool *ran, node_id n) {
    const graph_node *node = &g->node[n];
    if (node->phase == PHASE_UPDATE || is_update(node)) return 0;
    return !node->recomputed && gain_of(g, ran, n) > 0 ? 1 : 2;
}

static node_id next_by_definition(const brim_graph *g, const bool *ran) {
    node_id best = -1;
    int least = 3;
    for (node_id n = 0; n < g->nodes; n++) {
        if (!is_ready(g, ran, n)) continue;
        int rank = rank_of(g, ran, n);
        if (rank < least) least = rank, best = n;
    }
    return best;
}

// Marks that passes make, at random: what a node is for, and whether it is run again.
static brim_graph *marked_graph(uint64_t seed, int nodes, brim_error *err) {
    brim_graph *g = sandbox_graph(seed, nodes, 1 + (int)(seed % 2), err);
    if (seed % 3 == 0) { // chains have several outputs
        brim_graph *plain = g;
        pass_sections(g, 1, err);
        g = pass_fuse(plain, true, 8, err);
        brim_graph_free(plain);
    }
    ASSERT_FINE(*err);
    uint64_t random = seed;
    for (node_id n = 0; n < g->nodes; n++) {
        g->node[n].recomputed = sandbox_below(&random, 5) == 0;
        if (sandbox_below(&random, 12) == 0) g->node[n].phase = PHASE_UPDATE;
    }
    return g;
}

START_TEST(orders_are_those_of_the_definition) {
    int several = 0;
    for (uint64_t seed = 0; seed < 60; seed++) {
        brim_error err = {0};
        brim_graph *g = marked_graph(seed, 5 + (int)(seed % 30), &err);
        graph_schedule schedule;
        graph_schedule_make(g, &schedule, &err);
        ASSERT_FINE(err);
        bool *ran = calloc((size_t)g->nodes, sizeof *ran);
        ck_assert_int_eq(schedule.count, g->nodes);
        for (node_id n = 0; n < g->nodes; n++) several += g->node[n].outputs > 1;
        for (int32_t i = 0; i < schedule.count; i++) {
            node_id next = next_by_definition(g, ran);
            ck_assert_msg(schedule.order[i] == next, "seed %d: at %d node %d, expected %d",
                          (int)seed, i, schedule.order[i], next);
            ran[next] = true;
        }
        free(ran);
        graph_schedule_free(&schedule);
        ck_assert(!schedule.order && !schedule.count);
        brim_graph_free(g);
    }
    ck_assert_int_gt(several, 5);
}
END_TEST

// Of several outputs each is counted with its own size: what frees twice the larger one, and makes
// it and a small one, gains memory.
START_TEST(outputs_count_by_their_sizes) {
    MAKE_GRAPH;
    brim_value x = brim_input(g, "x", BRIM_F32, 2, 5, 2, 8);
    brim_value q = brim_relu(x), k = brim_neg(x), other = brim_exp(x);
    brim_value y = brim_attention(q, k, x, NULL);
    ASSERT_FINE(err);
    const graph_node *attention = &g->node[g->value[y.id].producer];
    ck_assert_int_gt(attention->outputs, 1);
    ck_assert_int_gt(g->value[other.id].producer, g->value[k.id].producer);
    graph_schedule schedule;
    graph_schedule_make(g, &schedule, &err);
    ASSERT_FINE(err);
    ck_assert_int_eq(schedule.order[2], g->value[y.id].producer);
    ck_assert_int_eq(schedule.order[3], g->value[other.id].producer);
    graph_schedule_free(&schedule);
    brim_graph_free(g);
}
END_TEST

// Hundreds of nodes that are ready at once, of each rank.
START_TEST(many_ready_nodes_are_sorted) {
    enum { MANY = 300 };
    MAKE_GRAPH;
    uint64_t random = 4;
    brim_value x = brim_input(g, "x", BRIM_F32, 4);
    for (int i = 0; i < MANY; i++) {
        g->phase = sandbox_below(&random, 2) ? PHASE_UPDATE : PHASE_FORWARD;
        brim_neg(x);
    }
    graph_schedule schedule;
    graph_schedule_make(g, &schedule, &err);
    ASSERT_FINE(err);
    ck_assert_int_eq(schedule.count, MANY);
    for (int i = 1; i < MANY; i++) {
        node_id a = schedule.order[i - 1], b = schedule.order[i];
        ck_assert(g->node[a].phase > g->node[b].phase ||
                  (g->node[a].phase == g->node[b].phase && a < b));
    }
    graph_schedule_free(&schedule);
    FREE_GRAPH;
}
END_TEST

START_TEST(a_variable_is_updated_once) {
    MAKE_GRAPH;
    shape s = {1, {4}};
    brim_value x = brim_input(g, "x", BRIM_F32, 4);
    for (int i = 0; i < 2; i++) { // sums of their own at first
        value_id sum = graph_leaf(g, ROLE_ACCUMULATOR, BRIM_F32, &s, i ? "b" : "a");
        graph_op(g, OP_ACCUMULATE, (brim_value[]){graph_value_of(g, sum), x}, 2, NULL);
    }
    graph_schedule schedule;
    graph_schedule_make(g, &schedule, &err);
    ASSERT_FINE(err);
    graph_schedule_free(&schedule);
    ((value_id *)g->node[1].input)[0] = g->node[0].input[0];
    ck_assert_int_ne(graph_schedule_make(g, &schedule, &err), BRIM_OK);
    ASSERT_FAILS(err, BRIM_GRAPH, "schedule: \"a\" is updated by two nodes, 0 and 1");
    ck_assert(!schedule.order && !schedule.count);
    FREE_GRAPH;
}
END_TEST

START_TEST(a_cycle_is_refused) {
    MAKE_GRAPH;
    brim_value x = brim_input(g, "x", BRIM_F32, 4), a = brim_neg(x), b = brim_neg(a);
    ((value_id *)g->node[0].input)[0] = b.id;
    graph_schedule schedule;
    ck_assert_int_ne(graph_schedule_make(g, &schedule, &err), BRIM_OK);
    ASSERT_FAILS(err, BRIM_GRAPH, "schedule: the graph has a cycle");
    // After an error nothing is made.
    brim_fail(&err, BRIM_IO, "before");
    ck_assert_int_eq(graph_schedule_make(g, &schedule, &err), BRIM_IO);
    ck_assert(!schedule.order && !schedule.count);
    FREE_GRAPH;
}
END_TEST

START_TEST(uses_are_all_that_read) {
    for (uint64_t seed = 0; seed < 30; seed++) {
        brim_error err = {0};
        brim_graph *g = marked_graph(seed, 20, &err);
        graph_uses uses;
        graph_uses_make(g, &uses, &err);
        ASSERT_FINE(err);
        int64_t at = 0;
        for (value_id v = 0; v < g->values; v++) {
            ck_assert_int_eq(uses.start[v], at);
            for (node_id n = 0; n < g->nodes; n++)
                for (int i = 0; i < g->node[n].inputs; i++) {
                    if (g->node[n].input[i] != v) continue;
                    ck_assert(uses.use[at].node == n && uses.use[at].input == i);
                    at++;
                }
        }
        ck_assert_int_eq(uses.start[g->values], at);
        graph_uses_free(&uses);
        ck_assert(!uses.start && !uses.use);
        brim_graph_free(g);
    }
}
END_TEST

// Without memory for one of its lists nothing is kept of the others.
START_TEST(uses_that_find_no_memory_are_none) {
    MAKE_GRAPH;
    brim_value x = brim_input(g, "x", BRIM_F32, 4);
    brim_output(brim_add(brim_relu(x), x), "y");
    for (int fail_at = 1; fail_at <= 3; fail_at++) {
        brim_error none = {0};
        allocations taken;
        graph_uses uses;
        allocations_begin(fail_at);
        graph_uses_make(g, &uses, &none);
        allocations_end(&taken);
        ck_assert_int_eq(none.status, BRIM_MEMORY);
        ck_assert_int_eq(taken.kept, 1); // the one that failed counts as taken
        ck_assert(!uses.start && !uses.use);
    }
    FREE_GRAPH;
}
END_TEST

Suite *schedule_suite(void) {
    Suite *s = suite_create("schedule");
    TCase *tests = tcase_create("schedule");
    tcase_add_test(tests, orders_are_those_of_the_definition);
    tcase_add_test(tests, outputs_count_by_their_sizes);
    tcase_add_test(tests, many_ready_nodes_are_sorted);
    tcase_add_test(tests, a_variable_is_updated_once);
    tcase_add_test(tests, a_cycle_is_refused);
    tcase_add_test(tests, uses_are_all_that_read);
    tcase_add_test(tests, uses_that_find_no_memory_are_none);
    suite_add_tcase(s, tests);
    return s;
}
