// Fusion: which nodes become one chain, and which must not.
#include <stdio.h>
#include "sandbox.h"
#include "test_passes.h"

START_TEST(fuse_makes_one_chain) {
    MAKE_GRAPH;
    brim_value x = brim_input(g, "x", BRIM_F32, 4, 6), bias = brim_parameter(g, "bias", normal, 6);
    brim_value h = brim_add(x, bias);
    brim_value y = brim_gelu(h);
    y = brim_mul(y, brim_constant(g, 0.5));
    brim_output(h, "h"); // needed outside: a second output
    brim_output(brim_softmax(y, -1), "y");
    TAKE(pass_fuse(g, true, OPERANDS, &err));
    assert_text(
        g,
        "%0 = input \"x\" [4,6] f32\n"
        "%1 = parameter \"bias\" [6] f32 normal(1)\n"
        "%2, %3 = fused(%0, %1, t0 = add(a0, a1) f32; t1 = gelu(t0) f32; t2 = constant(0.5) f32; "
        "t3 = mul(t1, t2) f32; out t0 t3) [4,6] f32, [4,6] f32\n"
        "%4 = softmax(%3) [4,6] f32\n"
        "output \"h\" = %2\n"
        "output \"y\" = %4\n");
    FREE_GRAPH;
}
END_TEST

START_TEST(fuse_off_makes_a_chain_of_each) {
    MAKE_GRAPH;
    brim_value x = brim_input(g, "x", BRIM_F32, 4);
    brim_value y = brim_relu(x);
    brim_exp(x); // nothing reads it
    brim_output(brim_mul(y, brim_constant(g, 0.5)), "y");
    TAKE(pass_fuse(g, false, OPERANDS, &err));
    assert_text(g, "%0 = input \"x\" [4] f32\n"
                   "%1 = fused(%0, t0 = relu(a0) f32; out t0) [4] f32\n"
                   "%2 = fused(t0 = constant(0.5) f32; out t0) [] f32\n"
                   "%3 = fused(%1, %2, t0 = mul(a0, a1) f32; out t0) [4] f32\n"
                   "output \"y\" = %3\n");
    FREE_GRAPH;
}
END_TEST

START_TEST(fuse_makes_no_cycle) {
    MAKE_GRAPH;
    brim_value x = brim_input(g, "x", BRIM_F32, 4, 6);
    brim_value a = brim_relu(x);
    brim_value b = brim_add(a, brim_softmax(a, -1)); // a leads to b through the softmax
    brim_value c = brim_add(b, brim_neg(x));
    brim_output(c, "c");
    TAKE(pass_fuse(g, true, OPERANDS, &err));
    assert_text(g, "%0 = input \"x\" [4,6] f32\n"
                   "%1 = fused(%0, t0 = relu(a0) f32; out t0) [4,6] f32\n"
                   "%2 = softmax(%1) [4,6] f32\n"
                   "%3 = fused(%1, %2, %0, t0 = add(a0, a1) f32; t1 = neg(a2) f32; t2 = add(t0, "
                   "t1) f32; out t2) "
                   "[4,6] f32\n"
                   "output \"c\" = %3\n");
    FREE_GRAPH;
}
END_TEST

// The second chain is made before the node that would lead back to it.
START_TEST(fuse_moves_units_out_of_the_way) {
    MAKE_GRAPH;
    brim_value x = brim_input(g, "x", BRIM_F32, 4, 6), w = brim_input(g, "w", BRIM_F32, 4, 6);
    brim_value a = brim_relu(x);
    brim_value s = brim_softmax(w, -1); // after a in the order, before a + s
    brim_value t = brim_softmax(a, -1); // reads a
    brim_value b = brim_add(a, s);      // joins a, which must move behind s
    brim_value c = brim_add(b, t);      // may not join: a leads to it through t
    brim_output(c, "c");
    TAKE(pass_fuse(g, true, OPERANDS, &err));
    assert_text(g, "%0 = input \"x\" [4,6] f32\n"
                   "%1 = input \"w\" [4,6] f32\n"
                   "%2 = softmax(%1) [4,6] f32\n"
                   "%3, %4 = fused(%0, %2, t0 = relu(a0) f32; t1 = add(t0, a1) f32; out t0 t1) "
                   "[4,6] f32, [4,6] f32\n"
                   "%5 = softmax(%3) [4,6] f32\n"
                   "%6 = fused(%4, %5, t0 = add(a0, a1) f32; out t0) [4,6] f32\n"
                   "output \"c\" = %6\n");
    FREE_GRAPH;
}
END_TEST

START_TEST(fuse_keeps_shapes_apart) {
    MAKE_GRAPH;
    brim_value x = brim_input(g, "x", BRIM_F32, 4, 6), r = brim_input(g, "r", BRIM_F32, 4, 1);
    brim_value s = brim_input(g, "s", BRIM_F32, 1);
    brim_value row = brim_exp(r); // would be computed six times for each row
    brim_value scale = brim_reshape(s, 1, 1);
    scale = brim_mul(scale, brim_constant(g, 2)); // one scalar: may be inside
    brim_output(brim_mul(brim_mul(x, row), scale), "y");
    TAKE(pass_fuse(g, true, OPERANDS, &err));
    assert_text(
        g,
        "%0 = input \"x\" [4,6] f32\n"
        "%1 = input \"r\" [4,1] f32\n"
        "%2 = input \"s\" [1] f32\n"
        "%3 = fused(%1, t0 = exp(a0) f32; out t0) [4,1] f32\n"
        "%4 = reshape(%2) [1,1] f32\n"
        "%5 = fused(%4, %0, %3, t0 = constant(2) f32; t1 = mul(a0, t0) f32; t2 = mul(a1, a2) f32; "
        "t3 = mul(t2, t1) f32; out t3) [4,6] f32\n"
        "output \"y\" = %5\n");
    FREE_GRAPH;
}
END_TEST

START_TEST(fuse_keeps_scalars_that_others_read) {
    MAKE_GRAPH;
    brim_value x = brim_input(g, "x", BRIM_F32, 4, 6), y = brim_input(g, "y", BRIM_F32, 5);
    brim_value scale = brim_exp(brim_input(g, "s", BRIM_F32, 1));
    brim_output(brim_mul(x, scale), "xs");
    brim_output(brim_mul(y, scale), "ys");
    TAKE(pass_fuse(g, true, OPERANDS, &err));
    ck_assert_int_eq(count_ops(g, OP_FUSED), 3);
    FREE_GRAPH;
}
END_TEST

// Up to four steps on one element may be inside; the chain then has the larger shape, and goes on.
START_TEST(fuse_takes_in_a_few_scalar_steps) {
    for (int steps = 1; steps < 7; steps++) {
        for (int scalar_first = 0; scalar_first < 2; scalar_first++) {
            MAKE_GRAPH;
            brim_value x = brim_input(g, "x", BRIM_F32, 4, 6), s = brim_input(g, "s", BRIM_F32, 1);
            brim_value y = scalar_first ? x : brim_abs(x);
            for (int i = 0; i < steps; i++) s = brim_exp(s);
            y = brim_neg(scalar_first ? brim_mul(s, y) : brim_mul(y, s));
            brim_output(brim_add(y, brim_input(g, "z", BRIM_F32, 4, 6)), "y");
            TAKE(pass_fuse(g, true, OPERANDS, &err));
            ck_assert_int_eq(g->nodes, steps <= 4 ? 1 : 2);
            ck_assert_int_eq(g->node[g->nodes - 1].attr.chain->steps,
                             (steps <= 4 ? steps : 0) + 4 - scalar_first);
            FREE_GRAPH;
        }
    }
}
END_TEST

// An operand counts once, however often it is read.
START_TEST(fuse_counts_operands_once) {
    MAKE_GRAPH;
    brim_value x[7], y = brim_constant(g, 0);
    for (int i = 0; i < 7; i++) {
        char name[16];
        snprintf(name, sizeof name, "x%d", i);
        x[i] = brim_input(g, name, BRIM_F32, 4);
    }
    for (int i = 0; i < 21; i++) y = brim_add(brim_mul(x[i % 7], y), x[i * 3 % 7]);
    brim_output(y, "y");
    TAKE(pass_fuse(g, true, 8, &err));
    ck_assert_int_eq(g->nodes, 1);
    ck_assert_int_eq(g->node[0].inputs, 7);
    FREE_GRAPH;
}
END_TEST

// Outputs count as operands.
START_TEST(fuse_limits_outputs) {
    MAKE_GRAPH;
    brim_value x = brim_input(g, "x", BRIM_F32, 4);
    for (int i = 0; i < 24; i++) {
        char name[16];
        snprintf(name, sizeof name, "x%d", i);
        brim_output(x = brim_neg(x), name);
    }
    TAKE(pass_fuse(g, true, 9, &err));
    ck_assert_int_eq(g->nodes, 3);
    for (node_id n = 0; n < 3; n++) ck_assert_int_eq(g->node[n].outputs, 8);
    FREE_GRAPH;
}
END_TEST

// Constants count as steps, once for each chain.
START_TEST(fuse_counts_constants) {
    MAKE_GRAPH;
    brim_value x = brim_input(g, "x", BRIM_F32, 4), two = brim_constant(g, 2);
    for (int i = 0; i < 32; i++) x = brim_mul(x, brim_constant(g, i + 3)); // 64 steps
    brim_output(x, "y");
    TAKE(pass_fuse(g, true, OPERANDS, &err));
    ck_assert_int_eq(g->nodes, 1);
    ck_assert_int_eq(g->node[0].attr.chain->steps, 64);
    FREE_GRAPH;
    g = brim_graph_create(&err);
    x = brim_input(g, "x", BRIM_F32, 4), two = brim_constant(g, 2);
    for (int i = 0; i < 63; i++) x = brim_mul(x, two); // and 64 again
    brim_output(x, "y");
    brim_output(brim_neg(two), "minus_two");
    TAKE(pass_fuse(g, true, OPERANDS, &err));
    ck_assert_int_eq(g->nodes, 2);
    FREE_GRAPH;
}
END_TEST

// The loss is stored though its chain reads it, and though nobody does.
START_TEST(fuse_stores_the_loss) {
    MAKE_GRAPH;
    brim_value x = brim_input_dims(g, "x", BRIM_F32, 0, NULL);
    brim_value sum = brim_exp(x), count = brim_abs(x);
    brim_output(brim_neg(sum), "y");
    g->loss.sum = sum.id;
    g->loss.count = count.id;
    TAKE(pass_fuse(g, true, OPERANDS, &err));
    assert_text(g,
                "%0 = input \"x\" [] f32\n"
                "%1, %2 = fused(%0, t0 = exp(a0) f32; t1 = neg(t0) f32; out t0 t1) [] f32, [] f32\n"
                "%3 = fused(%0, t0 = abs(a0) f32; out t0) [] f32\n"
                "output \"y\" = %2\n"
                "loss = %1 / %3\n");
    FREE_GRAPH;
}
END_TEST

START_TEST(a_chain_may_read_nothing) {
    MAKE_GRAPH;
    brim_output(brim_exp(brim_add(brim_constant(g, 2), brim_constant(g, 3))), "y");
    TAKE(pass_fuse(g, true, OPERANDS, &err));
    assert_text(g, "%0 = fused(t0 = constant(2) f32; t1 = constant(3) f32; t2 = add(t0, t1) f32; "
                   "t3 = exp(t2) f32; out t3) [] f32\n"
                   "output \"y\" = %0\n");
    FREE_GRAPH;
}
END_TEST

START_TEST(fuse_skips_broadcasts) {
    MAKE_GRAPH;
    brim_value x = brim_input(g, "x", BRIM_F32, 4, 6), b = brim_input(g, "b", BRIM_F32, 6);
    brim_output(brim_add(x, brim_broadcast(b, 4, 6)), "y");
    brim_output(brim_neg(brim_broadcast(b, 2, 6)), "z"); // this one makes the shape
    TAKE(pass_fuse(g, true, OPERANDS, &err));
    assert_text(g, "%0 = input \"x\" [4,6] f32\n"
                   "%1 = input \"b\" [6] f32\n"
                   "%2 = fused(%0, %1, t0 = add(a0, a1) f32; out t0) [4,6] f32\n"
                   "%3 = broadcast(%1) [2,6] f32\n"
                   "%4 = fused(%3, t0 = neg(a0) f32; out t0) [2,6] f32\n"
                   "output \"y\" = %2\n"
                   "output \"z\" = %4\n");
    FREE_GRAPH;
}
END_TEST

START_TEST(fuse_keeps_phases_and_sections_apart) {
    MAKE_GRAPH;
    brim_value x = brim_input(g, "x", BRIM_F32, 4), w = brim_parameter(g, "w", normal, 4);
    brim_value y = brim_mul(x, brim_neg(w)); // -w is made once a step
    g->phase = PHASE_BACKWARD;
    brim_output(brim_relu(y), "y");
    pass_sections(g, 3, &err);
    TAKE(pass_fuse(g, true, OPERANDS, &err));
    ck_assert_int_eq(count_ops(g, OP_FUSED), 3);
    FREE_GRAPH;
}
END_TEST

START_TEST(fuse_limits_operands) {
    MAKE_GRAPH;
    brim_value sum = brim_input(g, "x0", BRIM_F32, 4);
    for (int i = 1; i < 40; i++) {
        char name[16];
        snprintf(name, sizeof name, "x%d", i);
        sum = brim_add(sum, brim_input(g, name, BRIM_F32, 4));
    }
    brim_output(sum, "sum");
    TAKE(pass_fuse(g, true, 8, &err));
    for (node_id n = 0; n < g->nodes; n++)
        ck_assert_int_le(g->node[n].inputs + g->node[n].outputs, 8);
    ck_assert_int_eq(g->nodes, 7); // 7 inputs and an output make 6 additions: 39 in 7 chains
    ck_assert_ptr_null(pass_fuse(g, true, 3, &err));
    ASSERT_FAILS(err, BRIM_ARGUMENT, "at least 4");
    FREE_GRAPH;
}
END_TEST

START_TEST(fuse_limits_steps) {
    MAKE_GRAPH;
    brim_value x = brim_input(g, "x", BRIM_F32, 4);
    for (int i = 0; i < 500; i++) x = brim_relu(brim_neg(x));
    brim_output(x, "y");
    TAKE(pass_fuse(g, true, OPERANDS, &err));
    ck_assert_int_eq(g->nodes, 16);
    for (node_id n = 0; n < g->nodes; n++) ck_assert_int_le(g->node[n].attr.chain->steps, 64);
    FREE_GRAPH;
}
END_TEST

// No node but FUSED is elementwise; each chain has one shape; and what is inside one is not stored.
START_TEST(fused_graphs_are_well_formed) {
    for (uint64_t seed = 0; seed < 100; seed++) {
        brim_error err = {0};
        brim_graph *g = sandbox_graph(seed, 60, 2, &err);
        TAKE(pass_prune(g, &err));
        int before = g->nodes;
        TAKE(pass_fuse(g, true, 10, &err));
        ck_assert_int_le(g->nodes, before);
        for (node_id n = 0; n < g->nodes; n++) {
            const graph_node *node = &g->node[n];
            ck_assert(op_table[node->op].family != FAMILY_ELEMENTWISE || node->op == OP_FUSED);
            if (node->op != OP_FUSED) continue;
            ck_assert_int_le(node->inputs + node->outputs, 10);
            for (int i = 0; i < node->inputs; i++)
                for (int k = 0; k < i; k++) ck_assert_int_ne(node->input[i], node->input[k]);
        }
        FREE_GRAPH;
    }
}
END_TEST

Suite *pass_fuse_suite(void) {
    Suite *s = suite_create("pass_fuse");
    TCase *fuse = tcase_create("fuse");
    tcase_add_test(fuse, fuse_makes_one_chain);
    tcase_add_test(fuse, fuse_off_makes_a_chain_of_each);
    tcase_add_test(fuse, fuse_makes_no_cycle);
    tcase_add_test(fuse, fuse_moves_units_out_of_the_way);
    tcase_add_test(fuse, fuse_keeps_shapes_apart);
    tcase_add_test(fuse, fuse_keeps_scalars_that_others_read);
    tcase_add_test(fuse, fuse_takes_in_a_few_scalar_steps);
    tcase_add_test(fuse, fuse_counts_operands_once);
    tcase_add_test(fuse, fuse_limits_outputs);
    tcase_add_test(fuse, fuse_counts_constants);
    tcase_add_test(fuse, fuse_stores_the_loss);
    tcase_add_test(fuse, a_chain_may_read_nothing);
    tcase_add_test(fuse, fuse_skips_broadcasts);
    tcase_add_test(fuse, fuse_keeps_phases_and_sections_apart);
    tcase_add_test(fuse, fuse_limits_operands);
    tcase_add_test(fuse, fuse_limits_steps);
    tcase_add_test(fuse, fused_graphs_are_well_formed);
    suite_add_tcase(s, fuse);
    return s;
}
