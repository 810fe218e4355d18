// Recomputation: what the pass makes of small graphs, and that it changes no bit of what random
// ones compute. A GPT has a suite of its own.
#include <stdlib.h>
#include <string.h>
#include "graph/pass_recompute.h"
#include "sandbox.h"
#include "test_passes.h"
#include "tests/planned.h"

// Small graphs ------------------------------------------------------------------------------------

START_TEST(costs_of_ops) {
    static const struct {
        op_id op;
        recompute_cost cost;
    } some[] = {
        {OP_RESHAPE, RECOMPUTE_FREE},     {OP_BROADCAST, RECOMPUTE_FREE},
        {OP_CONSTANT, RECOMPUTE_FREE},    {OP_CAST, RECOMPUTE_CHEAP},
        {OP_GELU, RECOMPUTE_CHEAP},       {OP_CONCAT, RECOMPUTE_CHEAP},
        {OP_LAYER_NORM, RECOMPUTE_CHEAP}, {OP_DROPOUT, RECOMPUTE_CHEAP},
        {OP_EMBEDDING, RECOMPUTE_CHEAP},  {OP_SUM, RECOMPUTE_CHEAP},
        {OP_MATMUL, RECOMPUTE_DEAR},      {OP_ATTENTION, RECOMPUTE_DEAR},
        {OP_ADAMW, RECOMPUTE_NEVER},      {OP_ACCUMULATE, RECOMPUTE_NEVER},
    };
    for (size_t i = 0; i < sizeof some / sizeof *some; i++)
        ck_assert_msg(recompute_cost_of(&(graph_node){.op = some[i].op}) == some[i].cost, "%s",
                      op_table[some[i].op].name);
}
END_TEST

// A product and an activation whose results the backward pass reads.
static brim_graph *small_step(brim_error *err) {
    brim_graph *g = brim_graph_create(err);
    brim_value x = brim_input(g, "x", BRIM_F32, 4, 8), w = brim_parameter(g, "w", normal, 8, 8);
    brim_scope_push(g, "up");
    brim_value h = brim_matmul(x, w), y = brim_gelu(h);
    brim_scope_pop(g);
    brim_value z = brim_reshape(brim_layer_norm(y, "ln", 0), 32);
    g->phase = PHASE_BACKWARD;
    brim_value d = brim_mul(brim_reshape(z, 4, 8), y);
    d = graph_op(g, OP_GELU_BACKWARD, (brim_value[]){h, d}, 2, NULL);
    brim_output(brim_matmul_t(x, true, d, false), "dw");
    return g;
}

static brim_graph *recompute_listed(const brim_graph *g, const value_id *list, int count,
                                    brim_error *err) {
    bool *recompute = calloc((size_t)g->values, sizeof *recompute);
    for (int i = 0; i < count; i++) recompute[list[i]] = true;
    brim_graph *made = pass_recompute(g, recompute, err);
    free(recompute);
    return made;
}

START_TEST(copies_stand_before_their_readers) {
    brim_error err = {0};
    brim_graph *g = small_step(&err);
    TAKE(recompute_listed(g, (value_id[]){2, 3}, 2, &err)); // h and y
    assert_text(g, "%0 = input \"x\" [4,8] f32\n"
                   "%1 = parameter \"w\" [8,8] f32 normal(1)\n"
                   "%2 = matmul(%0, %1) [4,8] f32 up\n"
                   "%3 = gelu(%2) [4,8] f32 up\n"
                   "%4 = parameter \"ln.weight\" [8] f32 ones\n"
                   "%5 = parameter \"ln.bias\" [8] f32 zeros\n"
                   "%6, %7, %8 = layer_norm(%3, %4, %5, 1e-05) [4,8] f32, [4] f32, [4] f32 ln\n"
                   "%9 = reshape(%6) [32] f32\n"
                   "%10 = reshape(%9) [4,8] f32 ; backward\n"
                   "%11 = matmul(%0, %1) [4,8] f32 up ; backward, recomputes %2\n"
                   "%12 = gelu(%11) [4,8] f32 up ; backward, recomputes %3\n"
                   "%13 = mul(%10, %12) [4,8] f32 ; backward\n"
                   "%14 = gelu_backward(%11, %13) [4,8] f32 ; backward\n"
                   "%15 = matmul(%0, %14, transpose_a) [8,8] f32 ; backward\n"
                   "output \"dw\" = %15\n");
    // Equal as they are, they stay two; chains with them say so.
    TAKE(pass_prune(g, &err));
    ck_assert_int_eq(count_ops(g, OP_MATMUL), 3);
    TAKE(pass_densify(g, &err));
    ck_assert_int_eq(count_ops(g, OP_MATMUL), 3);
    TAKE(pass_fuse(g, true, OPERANDS, &err));
    ck_assert_int_eq(count_ops(g, OP_FUSED), 2);
    char *text = graph_text(g);
    ck_assert_ptr_nonnull(strstr(text, "matmul(%0, %1) [4,8] f32 up ; backward, recomputes %4\n"));
    ck_assert_ptr_nonnull(strstr(text, " ; backward, recomputes\n")); // gelu is not stored again
    free(text);
    FREE_GRAPH;
}
END_TEST

START_TEST(views_follow_and_all_outputs_come_again) {
    brim_error err = {0};
    brim_graph *g = small_step(&err);
    TAKE(recompute_listed(g, (value_id[]){6, 9}, 2,
                          &err)); // the norm's y; of its view no word counts
    assert_text(
        g, "%0 = input \"x\" [4,8] f32\n"
           "%1 = parameter \"w\" [8,8] f32 normal(1)\n"
           "%2 = matmul(%0, %1) [4,8] f32 up\n"
           "%3 = gelu(%2) [4,8] f32 up\n"
           "%4 = parameter \"ln.weight\" [8] f32 ones\n"
           "%5 = parameter \"ln.bias\" [8] f32 zeros\n"
           "%6, %7, %8 = layer_norm(%3, %4, %5, 1e-05) [4,8] f32, [4] f32, [4] f32 ln ; backward, "
           "recomputes\n"
           "%9 = reshape(%6) [32] f32 ; backward, recomputes\n"
           "%10 = reshape(%9) [4,8] f32 ; backward\n"
           "%11 = mul(%10, %3) [4,8] f32 ; backward\n"
           "%12 = gelu_backward(%2, %11) [4,8] f32 ; backward\n"
           "%13 = matmul(%0, %12, transpose_a) [8,8] f32 ; backward\n"
           "output \"dw\" = %13\n");
    FREE_GRAPH;
}
END_TEST

// A result that is made again for its other outputs stays the one of its name.
START_TEST(a_name_belongs_to_one_value) {
    MAKE_GRAPH;
    brim_value x = brim_input(g, "x", BRIM_F32, 4, 8), y = brim_layer_norm(brim_gelu(x), "ln", 0);
    brim_output(y, "y");
    g->phase = PHASE_BACKWARD;
    brim_output(brim_exp(graph_output(y, 1)), "e");
    TAKE(recompute_listed(g, (value_id[]){y.id + 1, y.id + 2}, 2, &err));
    ck_assert_int_eq(count_ops(g, OP_LAYER_NORM), 2);
    int named = 0;
    for (value_id v = 0; v < g->values; v++)
        named += g->value[v].name && strcmp(g->value[v].name, "y") == 0;
    ck_assert_int_eq(named, 1);
    FREE_GRAPH;
}
END_TEST

// What may not run twice, or need not, is kept whatever the decision.
START_TEST(what_cannot_is_kept) {
    MAKE_GRAPH;
    shape s = {2, {4, 4}};
    brim_value x = brim_input(g, "x", BRIM_F32, 4, 4), w = brim_parameter(g, "w", normal, 4, 4);
    brim_value sum = graph_value_of(g, graph_leaf(g, ROLE_ACCUMULATOR, BRIM_F32, &s, "sum"));
    brim_value of_variable = brim_exp(brim_reshape(sum, 16)), low = brim_exp(w),
               product = brim_matmul(x, low);
    brim_value named = brim_relu(product), view = brim_reshape(named, 16);
    brim_output(view, "view");
    brim_value added =
        graph_op(g, OP_ACCUMULATE, (brim_value[]){sum, brim_matmul(product, product)}, 2, NULL);
    g->phase = PHASE_BACKWARD;
    brim_value d = brim_add(brim_add(low, named), brim_add(product, brim_reshape(view, 4, 4)));
    brim_output(brim_add(d, brim_reshape(of_variable, 4, 4)), "d");
    g->phase = PHASE_UPDATE;
    brim_output(brim_neg(added), "total");
    for (int micro_batches = 1; micro_batches < 3; micro_batches++) {
        pass_sections(g, micro_batches, &err);
        bool possible[64];
        recompute_possible(g, possible, &err);
        ASSERT_FINE(err);
        ck_assert(possible[product.id]);
        ck_assert(possible[low.id] == (micro_batches == 1)); // else it is made once a step
        ck_assert(!possible[x.id] && !possible[w.id] && !possible[sum.id]);
        ck_assert(!possible[named.id] && !possible[view.id] && !possible[added.id]);
        ck_assert(!possible[of_variable.id] && !possible[d.id]);
        bool all[64];
        memset(all, true, sizeof all);
        brim_graph *made = pass_recompute(g, all, &err);
        ASSERT_FINE(err);
        int again = 0;
        for (node_id n = 0; n < made->nodes; n++) again += made->node[n].recomputed;
        ck_assert_int_eq(again, micro_batches == 1 ? 2 : 1);
        brim_graph_free(made);
    }
    FREE_GRAPH;
}
END_TEST

// The first value may be one that can be made again.
START_TEST(the_first_value_counts) {
    MAKE_GRAPH;
    brim_value two = brim_constant(g, 2), x = brim_input(g, "x", BRIM_F32, 4);
    brim_value y = brim_exp(brim_mul(x, two));
    g->phase = PHASE_BACKWARD;
    brim_output(brim_mul(y, two), "d");
    fit_graph(g);
    bool possible[8];
    for (int i = 0; i < 2; i++) {
        memset(possible, i, sizeof possible); // all are set
        recompute_possible(g, possible, &err);
        for (value_id v = 0; v < g->values; v++)
            ck_assert_int_eq(possible[v], v == two.id || v == y.id || v == y.id - 1);
    }
    TAKE(recompute_listed(g, (value_id[]){two.id, y.id}, 2, &err));
    ck_assert_int_eq(count_ops(g, OP_CONSTANT), 2);
    ck_assert_int_eq(count_ops(g, OP_EXP), 1); // the backward pass alone reads it
    FREE_GRAPH;
}
END_TEST

// Marks -------------------------------------------------------------------------------------------

START_TEST(marks_become_decisions) {
    MAKE_GRAPH;
    brim_value x = brim_input(g, "x", BRIM_F32, 4, 8), w = brim_parameter(g, "w", normal, 8, 8);
    brim_value first = brim_tanh(x); // of the first node
    brim_value a = brim_matmul(first, brim_exp(w)), b = brim_layer_norm(a, "ln", 0);
    brim_value c = brim_relu(b), c_view = brim_checkpoint(brim_reshape(c, 32));
    brim_value d = brim_exp(c_view), beside = brim_exp(a), sum = brim_add(d, brim_reshape(a, 32));
    brim_value norm = brim_checkpoint(brim_layer_norm(sum, "end", 0));
    brim_output(brim_add(brim_relu(norm), brim_reshape(beside, 32)), "y");
    brim_checkpoint(brim_checkpoint(x)); // a leaf: nothing comes of it
    ASSERT_FINE(err);
    bool recompute[64];
    recompute_marked(g, recompute, &err);
    ASSERT_FINE(err);
    const value_id again[] = {first.id, a.id, b.id, b.id + 1, b.id + 2, d.id, sum.id};
    for (value_id v = 0; v < g->values; v++) {
        bool expected = false;
        for (size_t i = 0; i < sizeof again / sizeof *again; i++) expected |= v == again[i];
        ck_assert_msg(recompute[v] == expected, "value %d", v);
    }
    g->value[b.id + 1].checkpoint = true; // one output of several is kept for itself
    recompute_marked(g, recompute, &err);
    ck_assert(recompute[b.id] && !recompute[b.id + 1] && recompute[b.id + 2]);
    for (value_id v = 0; v < g->values; v++) g->value[v].checkpoint = false;
    recompute_marked(g, recompute, &err);
    for (value_id v = 0; v < g->values; v++) ck_assert(!recompute[v]);
    FREE_GRAPH;
}
END_TEST

// Without decisions, the marks are taken.
START_TEST(marks_are_what_is_recomputed) {
    MAKE_GRAPH;
    begin_widely(g);
    brim_value x = brim_input(g, "x", BRIM_F32, 4, 8), w = brim_parameter(g, "w", normal, 8, 8);
    brim_value a = brim_matmul(x, w), b = brim_exp(a);
    brim_checkpoint(brim_matmul(b, w));
    g->phase = PHASE_BACKWARD;
    brim_output(brim_mul(a, b), "d");
    brim_graph *none = recompute_listed(g, NULL, 0, &err);
    ASSERT_FINE(err);
    for (node_id n = 0; n < none->nodes; n++) ck_assert(!none->node[n].recomputed);
    brim_graph_free(none);
    g->results = 1; // the concatenation has no part in the next
    brim_output(brim_mul(b, a), "e");
    TAKE(pass_recompute(g, NULL, &err));
    ck_assert(find_op(g, OP_MATMUL)->recomputed);
    ck_assert(find_op(g, OP_EXP)->recomputed);
    ck_assert(!find_op(g, OP_CONCAT)->recomputed);
    FREE_GRAPH;
}
END_TEST

START_TEST(marks_go_through_passes) {
    MAKE_GRAPH;
    brim_value x = brim_input(g, "x", BRIM_F32, 4, 4), w = brim_parameter(g, "w", normal, 4, 4);
    brim_value y = brim_cast(brim_matmul(x, w), BRIM_BF16); // an idle cast in bf16
    brim_checkpoint(y);
    brim_output(brim_add(brim_relu(y), brim_checkpoint(brim_relu(y))), "z");
    brim_graph *(*const pass[])(const brim_graph *, brim_error *) = {pass_prune, pass_densify};
    TAKE(pass_cast(g, BRIM_BF16, &err));
    for (int i = 0; i < 2; i++) TAKE(pass[i](g, &err));
    int marks = 0;
    for (value_id v = 0; v < g->values; v++) {
        marks += g->value[v].checkpoint;
        op_id op = g->value[v].producer < 0 ? OP_COUNT : g->node[g->value[v].producer].op;
        ck_assert(g->value[v].checkpoint == (op == OP_MATMUL || op == OP_RELU));
    }
    ck_assert_int_eq(marks, 2);
    FREE_GRAPH;
}
END_TEST

START_TEST(marks_refuse_what_is_no_value) {
    MAKE_GRAPH;
    brim_value x = brim_input(g, "x", BRIM_F32, 4);
    brim_value same = brim_checkpoint(x);
    ck_assert(same.graph == g && same.id == x.id);
    ck_assert_int_lt(brim_checkpoint((brim_value){g, 7}).id, 0);
    ASSERT_REFUSED(BRIM_GRAPH, "checkpoint: operand 1 is no value");
    ck_assert_int_lt(brim_checkpoint((brim_value){0}).id, 0);
    FREE_GRAPH;
}
END_TEST

// Random graphs -----------------------------------------------------------------------------------

static void choose_randomly(const brim_graph *g, bool *recompute, uint64_t *random) {
    int64_t share = 1 + sandbox_below(random, 4); // of four
    for (value_id v = 0; v < g->values; v++) recompute[v] = sandbox_below(random, 4) < share;
}

// A node that runs again does so after all of the forward pass that stands before it. (Copies of
// named results stand at the end.)
static void check_lateness(const brim_graph *g, const graph_schedule *schedule, uint64_t seed) {
    node_id latest = -1;
    for (int32_t i = 0; i < schedule->count; i++) {
        node_id n = schedule->order[i];
        ck_assert_msg(g->node[n].phase != PHASE_FORWARD || n > latest,
                      "seed %llu: node %d of the forward pass runs after node %d, which runs again",
                      (unsigned long long)seed, n, latest);
        if (g->node[n].recomputed && n > latest) latest = n;
    }
}

// Runs a random graph, with random values recomputed, as it is and from its plan. Returns how many
// nodes run again.
static int run_random(uint64_t seed, bool fuse) {
    brim_error err = {0};
    uint64_t random = seed;
    int micro_batches = 1 + (int)(seed % 3), again = 0;
    brim_graph *g = sandbox_graph(seed, 20 + (int)(seed % 40), micro_batches, &err), *built = g;
    ASSERT_FINE(err);
    sandbox_outcome plain, found;
    sandbox_run_plain(built, micro_batches, &plain);
    g = pass_prune(built, &err);
    TAKE(pass_densify(g, &err));
    pass_sections(g, micro_batches, &err);
    bool *recompute = calloc((size_t)g->values, sizeof *recompute);
    choose_randomly(g, recompute, &random);
    TAKE(pass_recompute(g, recompute, &err));
    free(recompute);
    for (node_id n = 0; n < g->nodes; n++) again += g->node[n].recomputed;
    sandbox_run_plain(g, micro_batches, &found);
    const char *difference = sandbox_difference(&plain, &found);
    ck_assert_msg(!difference, "seed %d: %s differs", (int)seed, difference);
    sandbox_outcome_free(&found);

    TAKE(pass_fuse(g, fuse, 8, &err));
    planned p = {.g = g, .request = {.alignment = 64}};
    graph_schedule_make(p.g, &p.schedule, &err);
    graph_layout_make(p.g, &p.schedule, &p.layout, &err);
    planned_place(&p, &err);
    ASSERT_FINE(err);
    check_lateness(p.g, &p.schedule, seed);
    sandbox_run_planned(p.g, &p.layout, &p.schedule, &p.plan, micro_batches, seed, &found);
    difference = sandbox_difference(&plain, &found);
    ck_assert_msg(!difference, "seed %d: %s differs when planned", (int)seed, difference);
    sandbox_outcome_free(&found);
    sandbox_outcome_free(&plain);
    brim_graph_free(built);
    planned_free(&p);
    return again;
}

START_TEST(random_graphs_keep_every_bit) {
    int again = 0;
    for (int seed = 0; seed < 150; seed++)
        again += run_random((uint64_t)(_i * 1000 + seed), seed % 4 != 0);
    ck_assert_int_gt(again, 150);
}
END_TEST

// A copy that would free memory in the forward pass does not run there.
START_TEST(copies_are_not_taken_early) {
    MAKE_GRAPH;
    brim_value x = brim_input(g, "x", BRIM_F32, 8, 8), kept = brim_matmul(x, x);
    brim_value low = brim_cast(kept, BRIM_BF16), y = brim_cast(brim_matmul(low, low), BRIM_F32);
    for (int i = 0; i < 3; i++) y = brim_matmul(y, y);
    g->phase = PHASE_BACKWARD;
    brim_value d = brim_matmul(brim_cast(y, BRIM_BF16), low);
    brim_output(brim_cast(d, BRIM_F32), "d");
    TAKE(recompute_listed(g, &low.id, 1, &err));
    graph_schedule schedule;
    graph_schedule_make(g, &schedule, &err);
    ASSERT_FINE(err);
    check_lateness(g, &schedule, 0);
    int again = 0;
    for (int i = 0; i < schedule.count; i++) again += g->node[schedule.order[i]].recomputed;
    ck_assert_int_eq(again, 1);
    graph_schedule_free(&schedule);
    FREE_GRAPH;
}
END_TEST

Suite *pass_recompute_suite(void) {
    Suite *suite = suite_create("pass_recompute");
    TCase *small = tcase_create("small");
    tcase_add_test(small, costs_of_ops);
    tcase_add_test(small, copies_stand_before_their_readers);
    tcase_add_test(small, views_follow_and_all_outputs_come_again);
    tcase_add_test(small, a_name_belongs_to_one_value);
    tcase_add_test(small, what_cannot_is_kept);
    tcase_add_test(small, the_first_value_counts);
    tcase_add_test(small, marks_become_decisions);
    tcase_add_test(small, marks_are_what_is_recomputed);
    tcase_add_test(small, marks_go_through_passes);
    tcase_add_test(small, marks_refuse_what_is_no_value);
    tcase_add_test(small, copies_are_not_taken_early);
    suite_add_tcase(suite, small);
    TCase *random = tcase_create("random");
    tcase_set_timeout(random, 300);
    tcase_add_loop_test(random, random_graphs_keep_every_bit, 0, 4);
    suite_add_tcase(suite, random);
    return suite;
}
