// Passes over graphs: what each makes of small graphs, word for word, and that none changes what
// random ones compute. Fusion and casts have suites of their own.
#include <brim/nn.h>
#include <stdio.h>
#include <string.h>
#include "graph/build.h"
#include "sandbox.h"
#include "test_passes.h"

// Prune -------------------------------------------------------------------------------------------

START_TEST(prune_removes_what_nothing_needs) {
    MAKE_GRAPH;
    brim_value x = brim_input(g, "x", BRIM_F32, 4);
    brim_input(g, "unused", BRIM_I32, 2);
    brim_parameter(g, "idle", normal, 3);
    graph_control(g, CONTROL_LR);
    brim_exp(brim_neg(x));
    brim_output(brim_relu(x), "y");
    g->loss.sum = total(x).id;
    g->loss.count = brim_constant(g, 4).id;
    TAKE(pass_prune(g, &err));
    assert_text(g, "%0 = input \"x\" [4] f32\n"
                   "%1 = input \"unused\" [2] i32\n"
                   "%2 = parameter \"idle\" [3] f32 normal(1)\n"
                   "%3 = relu(%0) [4] f32\n"
                   "%4 = sum(%0, axes 0) [] f32\n"
                   "%5 = constant(4) [] f32\n"
                   "output \"y\" = %3\n"
                   "loss = %4 / %5\n");
    FREE_GRAPH;
}
END_TEST

START_TEST(prune_merges_equal_nodes) {
    MAKE_GRAPH;
    brim_value x = brim_input(g, "x", BRIM_F32, 2, 4);
    brim_value a = brim_mul(x, brim_constant(g, 2)), b = brim_mul(x, brim_constant(g, 2));
    brim_value c = brim_mul(x, brim_constant(g, 3));
    brim_value d = brim_slice(x, 1, 0, 2), e = brim_slice(x, 1, 1, 2), f = brim_slice(x, 1, 1, 2);
    brim_output(brim_add(brim_add(a, b), c), "abc");
    brim_output(brim_add(d, brim_add(e, f)), "def");
    TAKE(pass_prune(g, &err));
    assert_text(g, "%0 = input \"x\" [2,4] f32\n"
                   "%1 = constant(2) [] f32\n"
                   "%2 = mul(%0, %1) [2,4] f32\n"
                   "%3 = constant(3) [] f32\n"
                   "%4 = mul(%0, %3) [2,4] f32\n"
                   "%5 = slice(%0, start 0 0) [2,2] f32\n"
                   "%6 = slice(%0, start 0 1) [2,2] f32\n"
                   "%7 = add(%2, %2) [2,4] f32\n"
                   "%8 = add(%7, %4) [2,4] f32\n"
                   "%9 = add(%6, %6) [2,2] f32\n"
                   "%10 = add(%5, %9) [2,2] f32\n"
                   "output \"abc\" = %8\n"
                   "output \"def\" = %10\n");
    brim_graph *again = pass_prune(g, &err); // nothing is left to do
    char *text = graph_text(again);
    assert_text(g, text);
    free(text);
    brim_graph_free(again);
    FREE_GRAPH;
}
END_TEST

START_TEST(prune_keeps_names_draws_and_phases_apart) {
    MAKE_GRAPH;
    brim_value x = brim_input(g, "x", BRIM_F32, 4);
    brim_value named[] = {brim_relu(x), brim_relu(x), brim_relu(x)};
    brim_output(named[0], "a");
    brim_output(named[1], "b"); // a value has one name
    brim_output(brim_add(brim_dropout(x, 0.5), brim_dropout(x, 0.5)), "drawn");
    brim_output(brim_neg(named[2]), "c");
    brim_value draw[] = {x, graph_control(g, CONTROL_SEED), graph_control(g, CONTROL_STEP),
                         graph_control(g, CONTROL_MICRO)};
    brim_attr attr = {.dropout = {.p = 0.5f, .stream = 7}};
    brim_value e = graph_op(g, OP_DROPOUT, draw, 4, &attr),
               f = graph_op(g, OP_DROPOUT, draw, 4, &attr);
    brim_output(brim_add(e, f), "e+f");
    brim_output(brim_add(brim_cast(brim_cast(x, BRIM_F16), BRIM_F32),
                         brim_cast(brim_cast(x, BRIM_BF16), BRIM_F32)),
                "dtypes");
    TAKE(pass_prune(g, &err));
    ck_assert_int_eq(count_ops(g, OP_RELU), 2);
    ck_assert_int_eq(count_ops(g, OP_DROPOUT), 4);
    ck_assert_int_eq(count_ops(g, OP_CAST), 4);
    // What is drawn after a pass is a third draw.
    brim_value more = brim_dropout(graph_value_of(g, 0), 0.5);
    ck_assert_uint_eq(g->node[g->value[more.id].producer].attr.dropout.stream, 2);
    FREE_GRAPH;
    g = brim_graph_create(&err); // what a later phase made may not be read by an earlier one
    x = brim_input(g, "x", BRIM_F32, 4);
    g->phase = PHASE_BACKWARD;
    brim_value late = brim_relu(x);
    g->phase = PHASE_FORWARD;
    brim_value early = brim_relu(x);
    brim_output(brim_neg(early), "early");
    g->phase = PHASE_UPDATE;
    brim_output(brim_add(late, brim_relu(x)), "late");
    TAKE(pass_prune(g, &err));
    ck_assert_int_eq(count_ops(g, OP_RELU), 2);
    FREE_GRAPH;
}
END_TEST

START_TEST(prune_gives_a_merged_value_its_name) {
    MAKE_GRAPH;
    brim_value x = brim_input(g, "x", BRIM_F32, 4), a = brim_relu(x), b = brim_relu(x);
    brim_output(brim_neg(a), "a");
    brim_output(b, "b");
    TAKE(pass_prune(g, &err));
    assert_text(g, "%0 = input \"x\" [4] f32\n"
                   "%1 = relu(%0) [4] f32\n"
                   "%2 = neg(%1) [4] f32\n"
                   "output \"a\" = %2\n"
                   "output \"b\" = %1\n");
    FREE_GRAPH;
}
END_TEST

// Outputs that others read stand for those of the equal node; operands that one node lacks keep
// the two apart, whichever is the first.
START_TEST(prune_compares_outputs_and_operands) {
    MAKE_GRAPH;
    brim_value x = brim_input(g, "x", BRIM_F32, 2, 4), w = brim_parameter(g, "w", normal, 4);
    brim_value q = brim_input(g, "q", BRIM_F32, 2, 3, 4, 2),
               at = brim_input(g, "at", BRIM_I32, 2, 3);
    brim_value a = brim_layer_norm_with(x, w, w, 0), b = brim_layer_norm_with(x, w, w, 0);
    brim_output(brim_add(a, brim_neg(b)), "norms");
    brim_output(brim_add(graph_output(b, 1), brim_neg(graph_output(b, 2))), "statistics");
    brim_output(graph_output(brim_layer_norm_with(x, w, w, 0), 2), "rstd");
    brim_output(brim_rotary(q, 100, at), "placed");
    brim_output(brim_rotary(brim_neg(q), 100, GRAPH_INVALID), "n");
    brim_value turned[] = {brim_rotary(q, 100, GRAPH_INVALID), brim_rotary(q, 100, at),
                           brim_rotary(q, 50, at), brim_rotary(q, 100, GRAPH_INVALID)};
    for (int i = 0; i < 4; i++) turned[i] = brim_abs(turned[i]);
    brim_output(brim_sub(brim_sub(turned[0], turned[1]), brim_sub(turned[2], turned[3])), "q");
    TAKE(pass_prune(g, &err));
    assert_text(g, "%0 = input \"x\" [2,4] f32\n"
                   "%1 = parameter \"w\" [4] f32 normal(1)\n"
                   "%2 = input \"q\" [2,3,4,2] f32\n"
                   "%3 = input \"at\" [2,3] i32\n"
                   "%4, %5, %6 = layer_norm(%0, %1, %1, 0) [2,4] f32, [2] f32, [2] f32\n"
                   "%7 = neg(%4) [2,4] f32\n"
                   "%8 = add(%4, %7) [2,4] f32\n"
                   "%9 = neg(%6) [2] f32\n"
                   "%10 = add(%5, %9) [2] f32\n"
                   "%11 = rotary(%2, %3, base 100) [2,3,4,2] f32\n"
                   "%12 = neg(%2) [2,3,4,2] f32\n"
                   "%13 = rotary(%12, base 100) [2,3,4,2] f32\n"
                   "%14 = rotary(%2, base 100) [2,3,4,2] f32\n"
                   "%15 = rotary(%2, %3, base 50) [2,3,4,2] f32\n"
                   "%16 = abs(%14) [2,3,4,2] f32\n"
                   "%17 = abs(%11) [2,3,4,2] f32\n"
                   "%18 = abs(%15) [2,3,4,2] f32\n"
                   "%19 = sub(%18, %16) [2,3,4,2] f32\n"
                   "%20 = sub(%16, %17) [2,3,4,2] f32\n"
                   "%21 = sub(%20, %19) [2,3,4,2] f32\n"
                   "output \"norms\" = %8\n"
                   "output \"statistics\" = %10\n"
                   "output \"rstd\" = %6\n"
                   "output \"placed\" = %11\n"
                   "output \"n\" = %13\n"
                   "output \"q\" = %21\n");
    FREE_GRAPH;
}
END_TEST

// The loss may be a control value, which nothing else reads; one may be read by the first node.
// The loss may be value 0, or what stands behind a leaf; nothing else may read it.
START_TEST(prune_keeps_the_loss) {
    for (int turned = 0; turned < 2; turned++) {
        MAKE_GRAPH;
        brim_value first = brim_constant(g, 3), x = brim_input(g, "x", BRIM_F32, 4), sum = total(x);
        g->loss.sum = turned ? first.id : sum.id;
        g->loss.count = turned ? sum.id : first.id;
        ck_assert_int_eq(first.id, 0);
        TAKE(pass_prune(g, &err));
        assert_text(g, turned ? "%0 = constant(3) [] f32\n"
                                "%1 = input \"x\" [4] f32\n"
                                "%2 = sum(%1, axes 0) [] f32\n"
                                "loss = %0 / %2\n"
                              : "%0 = constant(3) [] f32\n"
                                "%1 = input \"x\" [4] f32\n"
                                "%2 = sum(%1, axes 0) [] f32\n"
                                "loss = %2 / %0\n");
        FREE_GRAPH;
    }
}
END_TEST

START_TEST(prune_keeps_control_values_that_are_read) {
    MAKE_GRAPH;
    brim_value micro = graph_control(g, CONTROL_MICRO), lr = graph_control(g, CONTROL_LR);
    brim_value scale = graph_control(g, CONTROL_LOSS_SCALE);
    graph_control(g, CONTROL_SEED);
    brim_output(brim_cast(micro, BRIM_F32), "micro");
    g->loss.sum = lr.id;
    g->loss.count = scale.id;
    TAKE(pass_prune(g, &err));
    assert_text(g, "%0 = control \"micro\" [] i32\n"
                   "%1 = control \"lr\" [] f32\n"
                   "%2 = control \"loss_scale\" [] f32\n"
                   "%3 = cast(%0) [] f32\n"
                   "output \"micro\" = %3\n"
                   "loss = %1 / %2\n");
    FREE_GRAPH;
}
END_TEST

// Sections ----------------------------------------------------------------------------------------

START_TEST(sections_of_a_step) {
    MAKE_GRAPH;
    shape s = {1, {4}};
    brim_value x = brim_input(g, "x", BRIM_F32, 4), w = brim_parameter(g, "w", normal, 4);
    brim_value scaled = brim_mul(w, brim_constant(g, 2)); // once a step
    brim_value y = brim_mul(x, scaled);
    g->phase = PHASE_UPDATE;
    brim_value gradient = brim_relu(y); // of the update, but summed
    value_id sum = graph_leaf(g, ROLE_ACCUMULATOR, BRIM_F32, &s, "g"),
             m = graph_leaf(g, ROLE_STATE, BRIM_F32, &s, "m");
    brim_value total_gradient =
        graph_op(g, OP_ACCUMULATE, (brim_value[]){graph_value_of(g, sum), gradient}, 2, NULL);
    brim_value lr = graph_control(g, CONTROL_LR);
    graph_op(g, OP_SGD,
             (brim_value[]){w, graph_value_of(g, m), brim_neg(total_gradient), lr, lr, lr}, 6,
             &(brim_attr){.optimizer = {0}});
    pass_sections(g, 2, &err);
    ASSERT_FINE(err);
    static const struct {
        op_id op;
        int sections;
    } expected[] = {{OP_CONSTANT, SECTION_ALL},   {OP_MUL, SECTION_FIRST},
                    {OP_MUL, SECTION_ALL},        {OP_RELU, SECTION_ALL},
                    {OP_ACCUMULATE, SECTION_ALL}, {OP_NEG, SECTION_LAST},
                    {OP_SGD, SECTION_LAST}};
    ck_assert_int_eq(g->nodes, 7);
    for (int n = 0; n < 7; n++) {
        ck_assert_int_eq(g->node[n].op, expected[n].op);
        ck_assert_int_eq(g->node[n].sections, expected[n].sections);
    }
    g->phase = PHASE_FORWARD;
    value_id loss = graph_leaf(g, ROLE_ACCUMULATOR, BRIM_F32, &s, "loss");
    brim_value sum_of_losses =
        graph_op(g, OP_ACCUMULATE, (brim_value[]){graph_value_of(g, loss), y}, 2, NULL);
    brim_neg(sum_of_losses); // complete in the last micro-batch only, whatever its phase
    pass_sections(g, 2, &err);
    ASSERT_FINE(err);
    ck_assert_int_eq(g->node[7].sections, SECTION_ALL);
    ck_assert_int_eq(g->node[8].sections, SECTION_LAST);
    pass_sections(g, 1, &err);
    ASSERT_FINE(err);
    for (int n = 0; n < 9; n++) ck_assert_int_eq(g->node[n].sections, SECTION_LAST);
    ck_assert_int_ne(pass_sections(g, 0, &err), BRIM_OK);
    ASSERT_FAILS(err, BRIM_ARGUMENT, "0 micro-batches");
    FREE_GRAPH;
}
END_TEST

// Each node by what it reads and by its phase: once a step, in each micro-batch, or behind all.
START_TEST(sections_follow_what_is_read) {
    MAKE_GRAPH;
    shape s = {1, {4}};
    brim_value x = brim_input(g, "x", BRIM_F32, 4), w = brim_parameter(g, "w", normal, 4);
    brim_value low = graph_value_of(g, graph_leaf(g, ROLE_COPY, BRIM_F16, &s, "low")),
               sum = graph_value_of(g, graph_leaf(g, ROLE_ACCUMULATOR, BRIM_F32, &s, "sum")),
               more = graph_value_of(g, graph_leaf(g, ROLE_ACCUMULATOR, BRIM_F32, &s, "more")),
               state = graph_value_of(g, graph_leaf(g, ROLE_STATE, BRIM_F32, &s, "state"));
    brim_value lr = graph_control(g, CONTROL_LR);
    g->phase = PHASE_UPDATE;
    brim_value first = brim_relu(x), second = brim_neg(first); // both are summed
    brim_value added = graph_op(g, OP_ACCUMULATE, (brim_value[]){more, second}, 2, NULL);
    brim_value decay = brim_exp(w), alone = brim_exp(lr), beside = brim_abs(first),
               two = brim_constant(g, 2);
    g->phase = PHASE_FORWARD;
    brim_value one = brim_constant(g, 1);
    brim_value whole = graph_op(g, OP_ACCUMULATE, (brim_value[]){sum, x}, 2, NULL);
    brim_value of_parameter = graph_op(g, OP_ACCUMULATE, (brim_value[]){w, brim_tanh(w)}, 2, NULL);
    const struct {
        brim_value value;
        int sections;
    } rows[] = {
        {first, SECTION_ALL},
        {second, SECTION_ALL},
        {added, SECTION_ALL},
        {decay, SECTION_LAST},
        {alone, SECTION_LAST},
        {beside, SECTION_LAST},
        {two, SECTION_LAST},
        {whole, SECTION_ALL},
        {of_parameter, SECTION_ALL}, // it changes a variable each time
        {brim_add(whole, x), SECTION_LAST},
        {brim_add(x, whole), SECTION_LAST},
        {brim_neg(brim_add(whole, w)), SECTION_LAST},
        {brim_exp(one), SECTION_ALL},
        {brim_mul(w, one), SECTION_FIRST},
        {brim_neg(brim_mul(one, w)), SECTION_FIRST},
        {brim_cast(low, BRIM_F32), SECTION_FIRST},
        {brim_add(w, x), SECTION_ALL},
        {brim_add(x, w), SECTION_ALL},
        {brim_neg(state), SECTION_ALL},
        {brim_exp(lr), SECTION_ALL},
    };
    ASSERT_FINE(err);
    fit_graph(g);
    pass_sections(g, 2, &err);
    ASSERT_FINE(err);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        ck_assert_msg(g->node[g->value[rows[i].value.id].producer].sections == rows[i].sections,
                      "row %d", (int)i);
    brim_scope_push(g, "loss");
    brim_value again = brim_square(whole);
    brim_scope_pop(g);
    graph_op(g, OP_ACCUMULATE, (brim_value[]){state, again}, 2, NULL);
    ck_assert_int_eq(pass_sections(g, 2, &err), BRIM_GRAPH);
    char expected[200];
    snprintf(expected, sizeof expected,
             "sections: node %d (square in scope \"loss\") depends on a sum over micro-batches and "
             "is itself summed",
             (int)g->value[again.id].producer);
    ASSERT_REFUSED(BRIM_GRAPH, expected);
    ck_assert_int_eq(pass_sections(g, 1, &err), BRIM_OK);
    ck_assert_int_eq(pass_sections(g, -1, &err), BRIM_ARGUMENT);
    FREE_GRAPH;
    err = (brim_error){0};
    g = brim_graph_create(&err); // the first node may be a sum
    sum = graph_value_of(g, graph_leaf(g, ROLE_ACCUMULATOR, BRIM_F32, &s, "sum"));
    whole =
        graph_op(g, OP_ACCUMULATE, (brim_value[]){sum, brim_input(g, "x", BRIM_F32, 4)}, 2, NULL);
    brim_neg(whole);
    pass_sections(g, 2, &err);
    ASSERT_FINE(err);
    ck_assert_int_eq(g->node[0].sections, SECTION_ALL);
    ck_assert_int_eq(g->node[1].sections, SECTION_LAST);
    FREE_GRAPH;
}
END_TEST

// All ---------------------------------------------------------------------------------------------

// A pass gives the new graph what its builder goes on with, and what belongs to values. The
// variable is value 0 in each.
START_TEST(passes_keep_what_belongs_to_the_graph) {
    for (int pass = 0; pass < 6; pass++) {
        MAKE_GRAPH;
        brim_value w = brim_checkpoint(brim_parameter(g, "w", normal, 4));
        begin_widely(g);
        brim_scope_push(g, "block");
        brim_value y = brim_dropout(brim_tanh(brim_exp(w)), 0.5);
        brim_scope_pop(g);
        brim_output(brim_checkpoint(brim_softmax(y, -1)), "y");
        if (pass != 1) graph_op(g, OP_ACCUMULATE, (brim_value[]){w, brim_softmax(w, -1)}, 2, NULL);
        g->training = false;
        g->phase = PHASE_BACKWARD;
        TAKE(pass == 0   ? pass_prune(g, &err)
             : pass == 1 ? (g->phase = PHASE_FORWARD, pass_cast(g, BRIM_F16, &err))
             : pass == 2 ? pass_compute_copies(g, NULL, &err)
             : pass == 3 ? pass_densify(g, &err)
             : pass == 4 ? pass_fuse(g, true, OPERANDS, &err)
                         : pass_fuse(g, false, OPERANDS, &err));
        ck_assert(!g->training);
        ck_assert_int_eq(g->phase, pass == 1 ? PHASE_FORWARD : PHASE_BACKWARD);
        ck_assert_int_eq(g->dropouts, 1);
        ck_assert(g->value[0].role == ROLE_PARAMETER && g->value[0].checkpoint);
        ck_assert(g->value[g->result[1]].checkpoint && !g->value[g->result[0]].checkpoint);
        ck_assert_int_eq(g->loss.sum, -1);
        if (pass != 1) {
            value_id update = g->value[0].update;
            ck_assert_int_eq(g->node[g->value[update].producer].op, OP_ACCUMULATE);
        }
        const char *scope = NULL; // neighbours share its text
        for (node_id n = 0; n < g->nodes; n++) {
            if (strcmp(g->node[n].scope, "block") != 0) continue;
            ck_assert(!scope || g->node[n].scope == scope);
            scope = g->node[n].scope;
        }
        ck_assert_ptr_nonnull(scope);
        FREE_GRAPH;
    }
}
END_TEST

static void compare_runs(brim_graph *g, const sandbox_outcome *expected, int micro_batches,
                         const char *pass, int seed) {
    sandbox_outcome found;
    sandbox_run_plain(g, micro_batches, &found);
    const char *difference = sandbox_difference(expected, &found);
    ck_assert_msg(!difference, "seed %d: %s differs after %s", seed, difference, pass);
    sandbox_outcome_free(&found);
}

START_TEST(passes_keep_every_bit) {
    for (int seed = _i * 100; seed < _i * 100 + 100; seed++) {
        int micro_batches = 1 + seed % 3;
        brim_error err = {0};
        brim_graph *g = sandbox_graph((uint64_t)seed, 40, micro_batches, &err), *built = g;
        ASSERT_FINE(err);
        sandbox_outcome expected;
        sandbox_run_plain(built, micro_batches, &expected);
        g = pass_prune(built, &err);
        ASSERT_FINE(err);
        compare_runs(g, &expected, micro_batches, "prune", seed);
        TAKE(pass_densify(g, &err));
        compare_runs(g, &expected, micro_batches, "densify", seed);
        pass_sections(g, micro_batches, &err);
        brim_graph *apart = pass_fuse(g, false, OPERANDS, &err);
        ASSERT_FINE(err);
        compare_runs(apart, &expected, micro_batches, "fuse (off)", seed);
        brim_graph_free(apart);
        TAKE(pass_fuse(g, true, 4 + seed % 20, &err));
        compare_runs(g, &expected, micro_batches, "fuse", seed);
        sandbox_outcome_free(&expected);
        brim_graph_free(built);
        FREE_GRAPH;
    }
}
END_TEST

// In 16 bits too: each step of a chain is rounded to its dtype.
START_TEST(fusion_keeps_16_bit_roundings) {
    for (int seed = 0; seed < 100; seed++) {
        brim_error err = {0};
        brim_graph *g = brim_graph_create(&err);
        uint64_t random = (uint64_t)seed;
        brim_value v[30] = {brim_input(g, "x", BRIM_F32, 3, 4), brim_parameter(g, "w", normal, 4)};
        for (int i = 2; i < 30; i++) {
            brim_value a = v[sandbox_below(&random, i)], b = v[sandbox_below(&random, i)];
            v[i] = sandbox_below(&random, 6) == 0 ? brim_softmax(a, -1)
                   : sandbox_below(&random, 2)    ? brim_mul(a, b)
                                                  : brim_add(a, b);
        }
        brim_output(v[29], "y");
        brim_output(v[20], "z");
        TAKE(pass_cast(g, seed % 2 ? BRIM_BF16 : BRIM_F16, &err));
        sandbox_outcome expected;
        brim_graph *kept = g;
        sandbox_run_plain(g, 1, &expected);
        g = pass_prune(g, &err);
        ASSERT_FINE(err);
        TAKE(pass_fuse(g, true, OPERANDS, &err));
        compare_runs(g, &expected, 1, "fuse", seed);
        sandbox_outcome_free(&expected);
        brim_graph_free(kept);
        FREE_GRAPH;
    }
}
END_TEST

START_TEST(passes_do_nothing_after_an_error) {
    MAKE_GRAPH;
    brim_output(brim_relu(brim_input(g, "x", BRIM_F32, 4)), "y");
    brim_fail(&err, BRIM_IO, "earlier");
    ck_assert_ptr_null(pass_prune(g, &err));
    ck_assert_ptr_null(pass_densify(g, &err));
    ck_assert_ptr_null(pass_fuse(g, true, OPERANDS, &err));
    ck_assert_ptr_null(pass_fuse(g, false, OPERANDS, &err));
    ck_assert_ptr_null(pass_cast(g, BRIM_BF16, &err));
    ck_assert_int_eq(pass_sections(g, 2, &err), BRIM_IO);
    ck_assert_ptr_null(pass_prune(NULL, &err)); // of the pass before, which failed
    ck_assert_ptr_null(pass_densify(NULL, &err));
    ck_assert_ptr_null(pass_fuse(NULL, true, OPERANDS, &err));
    ck_assert_ptr_null(pass_fuse(NULL, false, OPERANDS, &err));
    ck_assert_ptr_null(pass_cast(NULL, BRIM_BF16, &err));
    ck_assert_ptr_null(pass_compute_copies(NULL, NULL, &err));
    ASSERT_FAILS(err, BRIM_IO, "earlier");
    FREE_GRAPH;
}
END_TEST

Suite *passes_suite(void) {
    Suite *s = suite_create("passes");
    TCase *prune = tcase_create("prune");
    tcase_add_test(prune, prune_removes_what_nothing_needs);
    tcase_add_test(prune, prune_merges_equal_nodes);
    tcase_add_test(prune, prune_keeps_names_draws_and_phases_apart);
    tcase_add_test(prune, prune_gives_a_merged_value_its_name);
    tcase_add_test(prune, prune_compares_outputs_and_operands);
    tcase_add_test(prune, prune_keeps_the_loss);
    tcase_add_test(prune, prune_keeps_control_values_that_are_read);
    suite_add_tcase(s, prune);
    TCase *sections = tcase_create("sections");
    tcase_add_test(sections, sections_of_a_step);
    tcase_add_test(sections, sections_follow_what_is_read);
    suite_add_tcase(s, sections);
    TCase *all = tcase_create("all");
    tcase_set_timeout(all, 300);
    tcase_add_loop_test(all, passes_keep_every_bit, 0, 4);
    tcase_add_test(all, fusion_keeps_16_bit_roundings);
    tcase_add_test(all, passes_keep_what_belongs_to_the_graph);
    tcase_add_test(all, passes_do_nothing_after_an_error);
    suite_add_tcase(s, all);
    return s;
}
